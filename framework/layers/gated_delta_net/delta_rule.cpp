#include "framework/layers/gated_delta_net/delta_rule.hpp"

#include <algorithm>
#include <cmath>

namespace isthmus {

namespace {

template <class Real>
Real sigmoid(Real x) {
  return 1 / (1 + std::exp(-x));
}
template <class Real>
Real softplus(Real x) {
  return x > 20 ? x : std::log1p(std::exp(x));
}
template <class Real>
Real dot(const Real* a, const Real* b, std::int64_t n) {
  Real sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/// x * rate / sqrt(|x|^2 + 1e-6); gives the factor.
template <class Act, class Real>
Real unit(const Act* x, std::int64_t n, Real rate, Real* out) {
  Real squares = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    out[i] = static_cast<Real>(x[i]);
    squares += out[i] * out[i];
  }
  const Real factor = 1 / std::sqrt(squares + static_cast<Real>(1e-6));
  for (std::int64_t i = 0; i < n; ++i) out[i] *= factor * rate;
  return factor;
}

/// One head of one sequence: where its numbers lie, and room for a row.
template <class Act>
class head_of_sequence {
public:
  using real = kernels::real<Act>;
  head_of_sequence(const delta_rule_args<Act>& a, std::int64_t b, std::int64_t h, real* room)
      : a_(a),
        first_(b * a.length),
        h_(h),
        q(room),
        k(q + a.key_dim),
        u(k + a.key_dim),
        o(u + a.value_dim),
        root_(static_cast<real>(1) / std::sqrt(static_cast<real>(a.key_dim))) {}
  static std::int64_t room(const delta_rule_args<Act>& a) { return 2 * a.key_dim + 2 * a.value_dim; }

  std::int64_t at_q(std::int64_t t) const { return (first_ + t) * a_.qkv_width() + h_ * a_.key_dim; }
  std::int64_t at_k(std::int64_t t) const { return at_q(t) + a_.heads * a_.key_dim; }
  std::int64_t at_v(std::int64_t t) const { return (first_ + t) * a_.qkv_width() + 2 * a_.heads * a_.key_dim + h_ * a_.value_dim; }
  std::int64_t at_y(std::int64_t t) const { return ((first_ + t) * a_.heads + h_) * a_.value_dim; }
  std::int64_t at_z(std::int64_t t) const { return (first_ + t) * a_.stride + h_ * a_.value_dim; }
  std::int64_t at_gate(std::int64_t t) const { return (first_ + t) * a_.stride + h_; }

  /// Reads row t: q, k, their factors, the gates.
  void read(std::int64_t t) {
    q_factor = unit(a_.qkv + at_q(t), a_.key_dim, root_, q);
    k_factor = unit(a_.qkv + at_k(t), a_.key_dim, real{1}, k);
    beta = sigmoid(static_cast<real>(a_.beta[at_gate(t)]));
    pre = static_cast<real>(a_.alpha[at_gate(t)]) + a_.dt_bias[h_];
    rate = std::exp(a_.a_log[h_]);
    decay = std::exp(-rate * softplus(pre));
  }
  /// S <- S_t in place; u = v - P^T k.
  void move(std::int64_t t, real* s) {
    const Act* v = a_.qkv + at_v(t);
    const std::int64_t n = a_.value_dim;
    for (std::int64_t j = 0; j < n; ++j) u[j] = static_cast<real>(v[j]);
    for (std::int64_t i = 0; i < a_.key_dim; ++i) {
      real* row = s + i * n;
      for (std::int64_t j = 0; j < n; ++j) {
        row[j] *= decay;
        u[j] -= row[j] * k[i];
      }
    }
    for (std::int64_t i = 0; i < a_.key_dim; ++i) {
      const real share = beta * k[i];
      for (std::int64_t j = 0; j < n; ++j) s[i * n + j] += share * u[j];
    }
  }
  /// o = S^T q; gives 1 / rms(o).
  real look(const real* s) {
    std::fill_n(o, a_.value_dim, real{0});
    for (std::int64_t i = 0; i < a_.key_dim; ++i)
      for (std::int64_t j = 0; j < a_.value_dim; ++j) o[j] += s[i * a_.value_dim + j] * q[i];
    return 1 / std::sqrt(dot(o, o, a_.value_dim) / static_cast<real>(a_.value_dim) + a_.eps);
  }
  real root() const { return root_; }

private:
  const delta_rule_args<Act>& a_;
  std::int64_t first_, h_;

public:
  real *q, *k, *u, *o;  // [key_dim] twice, [value_dim] twice
  real q_factor = 0, k_factor = 0, beta = 0, pre = 0, rate = 0, decay = 0;

private:
  real root_;
};

/// Sums of a head of a sequence that are added over heads or sequences in the end: d_a_log, d_dt_bias, d_gain.
template <class Act>
std::int64_t sums_of(const delta_rule_args<Act>& a) {
  return 2 + a.value_dim;
}

/// dS and the gradients of one row, last row first.
template <class Act>
class row_backward {
public:
  using real = kernels::real<Act>;
  /// d_final: of this head of this sequence, or null for zero.
  row_backward(const delta_rule_args<Act>& a, const delta_rule_gradients<Act>& g, head_of_sequence<Act>& head, const real* d_final,
               real* room, real* sums)
      : a_(a),
        g_(g),
        head_(head),
        d_s(room),
        d_o_(d_s + a.size()),
        d_w_(d_o_ + a.value_dim),
        d_q_(d_w_ + a.value_dim),
        d_k_(d_q_ + a.key_dim),
        sums_(sums) {
    if (d_final)
      std::copy_n(d_final, a.size(), d_s);
    else
      std::fill_n(d_s, a.size(), real{0});
  }
  static std::int64_t room(const delta_rule_args<Act>& a) { return a.size() + 2 * a.value_dim + 2 * a.key_dim; }

  /// before, after: S_{t-1} and S_t.
  void step(std::int64_t t, const real* before, const real* after) {
    head_.read(t);
    remember_u(t, before);
    through_norm(t, head_.look(after));
    const std::int64_t n = a_.value_dim;
    std::fill_n(d_w_, n, real{0});
    for (std::int64_t i = 0; i < a_.key_dim; ++i) {
      real* row = d_s + i * n;
      d_q_[i] = dot(after + i * n, d_o_, n);
      for (std::int64_t j = 0; j < n; ++j) {
        row[j] += head_.q[i] * d_o_[j];
        d_w_[j] += row[j] * head_.k[i];
      }
      d_k_[i] = head_.beta * dot(row, head_.u, n);
    }
    const real d_beta = dot(head_.u, d_w_, n);
    real d_decay = 0;
    for (std::int64_t i = 0; i < a_.key_dim; ++i) {  // du = beta d_w
      real* row = d_s + i * n;
      d_k_[i] -= head_.beta * head_.decay * dot(before + i * n, d_w_, n);
      for (std::int64_t j = 0; j < n; ++j) row[j] -= head_.beta * head_.k[i] * d_w_[j];
      d_decay += dot(row, before + i * n, n);
      for (std::int64_t j = 0; j < n; ++j) row[j] *= head_.decay;
    }
    write(t, d_beta, d_decay);
  }
  /// The gradient of the state before the last row that was walked.
  const real* state_gradient() const { return d_s; }

private:
  void remember_u(std::int64_t t, const real* before) {
    const std::int64_t n = a_.value_dim;
    for (std::int64_t j = 0; j < n; ++j) head_.u[j] = static_cast<real>(a_.qkv[head_.at_v(t) + j]);
    for (std::int64_t i = 0; i < a_.key_dim; ++i)
      for (std::int64_t j = 0; j < n; ++j) head_.u[j] -= head_.decay * before[i * n + j] * head_.k[i];
  }
  /// d_o from dy, through y = o r gain silu(z).
  void through_norm(std::int64_t t, real r) {
    const std::int64_t n = a_.value_dim;
    real along = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      const real dy = static_cast<real>(g_.dy[head_.at_y(t) + j]), z = static_cast<real>(a_.z[head_.at_z(t) + j]), sz = sigmoid(z);
      const real o = head_.o[j], gain = a_.gain[j];
      sums_[2 + j] += dy * o * r * z * sz;
      g_.dz[head_.at_z(t) + j] = static_cast<Act>(dy * o * r * gain * sz * (1 + z * (1 - sz)));
      d_o_[j] = dy * gain * z * sz;
      along += d_o_[j] * o;
    }
    const real pull = along * r * r * r / static_cast<real>(n);
    for (std::int64_t j = 0; j < n; ++j) d_o_[j] = r * d_o_[j] - pull * head_.o[j];
  }
  void write(std::int64_t t, real d_beta, real d_decay) {
    const std::int64_t n = a_.key_dim;
    const real q_along = dot(head_.q, d_q_, n) / head_.root(), k_along = dot(head_.k, d_k_, n);
    for (std::int64_t i = 0; i < n; ++i) {
      g_.d_qkv[head_.at_q(t) + i] = static_cast<Act>(head_.q_factor * head_.root() * (d_q_[i] - head_.q[i] / head_.root() * q_along));
      g_.d_qkv[head_.at_k(t) + i] = static_cast<Act>(head_.k_factor * (d_k_[i] - head_.k[i] * k_along));
    }
    for (std::int64_t j = 0; j < a_.value_dim; ++j) g_.d_qkv[head_.at_v(t) + j] = static_cast<Act>(head_.beta * d_w_[j]);
    g_.d_beta[head_.at_gate(t)] = static_cast<Act>(d_beta * head_.beta * (1 - head_.beta));
    const real d_exponent = d_decay * head_.decay, d_pre = -d_exponent * head_.rate * sigmoid(head_.pre);
    g_.d_alpha[head_.at_gate(t)] = static_cast<Act>(d_pre);
    sums_[0] -= d_exponent * head_.rate * softplus(head_.pre);
    sums_[1] += d_pre;
  }

  const delta_rule_args<Act>& a_;
  const delta_rule_gradients<Act>& g_;
  head_of_sequence<Act>& head_;
  real *d_s, *d_o_, *d_w_, *d_q_, *d_k_, *sums_;
};

template <class Real>
Real* room_of(kernels::stream& s, int worker, std::int64_t count) {
  return reinterpret_cast<Real*>(s.workers.scratch(worker, static_cast<std::size_t>(count) * sizeof(Real)));
}

}  // namespace

template <class Act>
void delta_rule(kernels::stream& s, const delta_rule_args<Act>& a) {
  using real = kernels::real<Act>;
  s.workers.run(a.batch * a.heads, [&](std::int64_t tile, int worker) {
    real* room = room_of<real>(s, worker, head_of_sequence<Act>::room(a) + a.size());
    head_of_sequence<Act> head(a, tile / a.heads, tile % a.heads, room);
    real* state = room + head_of_sequence<Act>::room(a);
    if (a.state)
      std::copy_n(a.state + tile * a.size(), a.size(), state);
    else
      std::fill_n(state, a.size(), real{0});
    for (std::int64_t t = 0; t < a.length; ++t) {
      if (a.states && t % a.chunk == 0) std::copy_n(state, a.size(), a.states + (tile * a.chunks() + t / a.chunk) * a.size());
      head.read(t);
      head.move(t, state);
      const real r = head.look(state);
      for (std::int64_t j = 0; j < a.value_dim; ++j) {
        const real z = static_cast<real>(a.z[head.at_z(t) + j]);
        a.y[head.at_y(t) + j] = static_cast<Act>(head.o[j] * r * a.gain[j] * z * sigmoid(z));
      }
    }
    if (a.state) std::copy_n(state, a.size(), a.state + tile * a.size());
  });
}

template <class Act>
void delta_rule_backward(kernels::stream& s, const delta_rule_args<Act>& a, const delta_rule_gradients<Act>& g) {
  using real = kernels::real<Act>;
  const std::int64_t tiles = a.batch * a.heads, sums = sums_of(a);
  auto* all_sums = reinterpret_cast<real*>(s.workers.shared_scratch(static_cast<std::size_t>(tiles * sums) * sizeof(real)));
  std::fill_n(all_sums, tiles * sums, real{0});
  s.workers.run(tiles, [&](std::int64_t tile, int worker) {
    const std::int64_t own = head_of_sequence<Act>::room(a), back = row_backward<Act>::room(a);
    real* room = room_of<real>(s, worker, own + back + (a.chunk + 1) * a.size());
    head_of_sequence<Act> head(a, tile / a.heads, tile % a.heads, room);
    row_backward<Act> row(a, g, head, g.d_final ? g.d_final + tile * a.size() : nullptr, room + own, all_sums + tile * sums);
    real* states = room + own + back;  // of one chunk, computed again
    for (std::int64_t c = a.chunks() - 1; c >= 0; --c) {
      const std::int64_t first = c * a.chunk, rows = std::min(a.chunk, a.length - first);
      std::copy_n(a.states + (tile * a.chunks() + c) * a.size(), a.size(), states);
      for (std::int64_t i = 0; i < rows; ++i) {
        std::copy_n(states + i * a.size(), a.size(), states + (i + 1) * a.size());
        head.read(first + i);
        head.move(first + i, states + (i + 1) * a.size());
      }
      for (std::int64_t i = rows - 1; i >= 0; --i) row.step(first + i, states + i * a.size(), states + (i + 1) * a.size());
    }
    if (g.d_initial) std::copy_n(row.state_gradient(), a.size(), g.d_initial + tile * a.size());
  });
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    const real* from = all_sums + tile * sums;
    g.d_a_log[tile % a.heads] += from[0];
    g.d_dt_bias[tile % a.heads] += from[1];
    for (std::int64_t j = 0; j < a.value_dim; ++j) g.d_gain[j] += from[2 + j];
  }
}

#define ISTHMUS_FOR(Act)                                                   \
  template void delta_rule(kernels::stream&, const delta_rule_args<Act>&); \
  template void delta_rule_backward(kernels::stream&, const delta_rule_args<Act>&, const delta_rule_gradients<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(kernels::bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus
