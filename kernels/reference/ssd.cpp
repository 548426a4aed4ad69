#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::reference {

namespace {

template <class R>
struct time_step {
  R delta, slope;  // D_t and dD_t/d(dt)
};

template <class R>
time_step<R> time_step_of(R raw, R bias, R low, R high) {
  const R pre = raw + bias, delta = softplus(pre);
  if (delta < low) return {low, 0};
  if (delta > high) return {high, 0};
  return {delta, sigmoid(pre)};
}

/// S <- decay S + delta x b^T, one token of one head. s: [head_dim, state].
template <class Act>
void move_state(real<Act>* s, real<Act> decay, real<Act> delta, const Act* x, const Act* b, std::int64_t head_dim, std::int64_t state) {
  for (std::int64_t p = 0; p < head_dim; ++p)
    for (std::int64_t n = 0; n < state; ++n) s[p * state + n] = decay * s[p * state + n] + delta * load(x[p]) * load(b[n]);
}

}  // namespace

template <class Act>
void ssd(stream& s, const ssd_args<Act>& a) {
  using R = real<Act>;
  const std::int64_t size = a.head_dim * a.state, chunks = (a.length + a.chunk - 1) / a.chunk, inner = a.heads * a.head_dim;
  R* now = scratch<Act>(s, size);
  for (std::int64_t i = 0; i < a.batch * a.heads; ++i) {
    const std::int64_t batch = i / a.heads, h = i % a.heads, g = h * a.groups / a.heads;
    const R rate = -exp_of(a.a_log[h]);
    if (a.initial)
      std::copy_n(a.initial + i * size, size, now);
    else
      std::fill_n(now, size, R{0});
    for (std::int64_t t = 0; t < a.length; ++t) {
      if (a.states && t % a.chunk == 0) std::copy_n(now, size, a.states + ((batch * chunks + t / a.chunk) * a.heads + h) * size);
      const std::int64_t row = batch * a.length + t;
      const Act* x = a.x + row * a.xbc_stride + h * a.head_dim;
      const Act* c = a.c + row * a.xbc_stride + g * a.state;
      const R delta = time_step_of(load(a.dt[row * a.dt_stride + h]), a.dt_bias[h], a.dt_min, a.dt_max).delta;
      move_state(now, exp_of(delta * rate), delta, x, a.b + row * a.xbc_stride + g * a.state, a.head_dim, a.state);
      for (std::int64_t p = 0; p < a.head_dim; ++p)
        a.y[row * inner + h * a.head_dim + p] = static_cast<Act>(dot(now + p * a.state, c, a.state) + a.d[h] * load(x[p]));
    }
    if (a.final) std::copy_n(now, size, a.final + i * size);
  }
}

template <class Act>
void ssd_step(stream& s, const ssd_step_args<Act>& a) {
  // clang-format off
  ssd<Act>(s, {.x = a.x, .b = a.b, .c = a.c, .dt = a.dt, .dt_bias = a.dt_bias, .a_log = a.a_log, .d = a.d, .y = a.y,
               .states = nullptr, .initial = a.s, .final = a.s, .batch = 1, .length = 1, .heads = a.heads, .head_dim = a.head_dim,
               .groups = a.groups, .state = a.state, .chunk = 1, .xbc_stride = 0, .dt_stride = 0, .dt_min = a.dt_min,
               .dt_max = a.dt_max});
  // clang-format on
}

namespace {

/// Memory for one sequence and head: states after each token of a chunk, the adjoint of the state, and sums over heads.
template <class R>
struct ssd_scratch {
  R *states, *adjoint, *dx, *db, *dc;  // [chunk + 1, P, N], [P, N], [P], [length, G N] twice
};

/// Tokens [begin, end) of one head, last first. On entry m.adjoint is the gradient of the state after token end - 1 that comes from
/// later tokens, on return of the state before token `begin`. The recurrence is run again from the state kept for this chunk.
template <class Act>
void ssd_chunk_backward(const ssd_backward_args<Act>& a, std::int64_t batch, std::int64_t h, std::int64_t begin, std::int64_t end,
                        const ssd_scratch<real<Act>>& m) {
  using R = real<Act>;
  const std::int64_t size = a.head_dim * a.state, inner = a.heads * a.head_dim, g = h * a.groups / a.heads;
  const std::int64_t chunks = (a.length + a.chunk - 1) / a.chunk;
  const R rate = -exp_of(a.a_log[h]);
  const auto step_at = [&](std::int64_t row) { return time_step_of(load(a.dt[row * a.dt_stride + h]), a.dt_bias[h], a.dt_min, a.dt_max); };
  std::copy_n(a.states + ((batch * chunks + begin / a.chunk) * a.heads + h) * size, size, m.states);
  for (std::int64_t t = begin; t < end; ++t) {
    const std::int64_t row = batch * a.length + t;
    R* after = m.states + (t - begin + 1) * size;
    std::copy_n(after - size, size, after);
    const R delta = step_at(row).delta;
    move_state(after, exp_of(delta * rate), delta, a.x + row * a.xbc_stride + h * a.head_dim, a.b + row * a.xbc_stride + g * a.state,
               a.head_dim, a.state);
  }
  for (std::int64_t t = end - 1; t >= begin; --t) {
    const std::int64_t row = batch * a.length + t;
    const auto [delta, slope] = step_at(row);
    const R decay = exp_of(delta * rate);
    const Act* x = a.x + row * a.xbc_stride + h * a.head_dim;
    const Act* b = a.b + row * a.xbc_stride + g * a.state;
    const Act* c = a.c + row * a.xbc_stride + g * a.state;
    const Act* dy = a.dy + row * inner + h * a.head_dim;
    R* db = m.db + (t * a.groups + g) * a.state;
    R* dc = m.dc + (t * a.groups + g) * a.state;
    const R* before = m.states + (t - begin) * size;
    R d_delta = 0, d_log_decay = 0;
    for (std::int64_t p = 0; p < a.head_dim; ++p) {
      R* adjoint = m.adjoint + p * a.state;
      const R xp = load(x[p]), dyp = load(dy[p]);
      add_scaled<R>(dc, dyp, before + size + p * a.state, a.state);
      add_scaled<Act>(adjoint, dyp, c, a.state);
      const R along_b = dot(b, adjoint, a.state);
      d_delta += xp * along_b;
      a.d_d[h] += dyp * xp;
      m.dx[p] = delta * along_b + a.d[h] * dyp;
      add_scaled<R>(db, delta * xp, adjoint, a.state);
      d_log_decay += decay * dot(before + p * a.state, adjoint, a.state);
      for (std::int64_t n = 0; n < a.state; ++n) adjoint[n] *= decay;
    }
    store(a.dx + row * a.d_xbc_stride + h * a.head_dim, m.dx, a.head_dim);
    const R d_raw = (d_delta + rate * d_log_decay) * slope;
    a.d_dt[row * a.d_dt_stride + h] = static_cast<Act>(d_raw);
    a.d_dt_bias[h] += d_raw;
    a.d_a_log[h] += delta * d_log_decay * rate;
  }
}

}  // namespace

template <class Act>
void ssd_backward(stream& s, const ssd_backward_args<Act>& a) {
  using R = real<Act>;
  const std::int64_t size = a.head_dim * a.state, wide = a.groups * a.state;
  R* memory = scratch<Act>(s, (a.chunk + 2) * size + a.head_dim + 2 * a.length * wide);
  const ssd_scratch<R> m{memory, memory + (a.chunk + 1) * size, memory + (a.chunk + 2) * size, memory + (a.chunk + 2) * size + a.head_dim,
                         memory + (a.chunk + 2) * size + a.head_dim + a.length * wide};
  for (std::int64_t batch = 0; batch < a.batch; ++batch) {
    std::fill_n(m.db, 2 * a.length * wide, R{0});
    for (std::int64_t h = 0; h < a.heads; ++h) {
      const std::int64_t carried = (batch * a.heads + h) * size;
      if (a.d_final)
        std::copy_n(a.d_final + carried, size, m.adjoint);
      else
        std::fill_n(m.adjoint, size, R{0});
      for (std::int64_t begin = (a.length - 1) / a.chunk * a.chunk; begin >= 0 && a.length > 0; begin -= a.chunk)
        ssd_chunk_backward(a, batch, h, begin, std::min(begin + a.chunk, a.length), m);
      if (a.d_initial) std::copy_n(m.adjoint, size, a.d_initial + carried);
    }
    for (std::int64_t t = 0; t < a.length; ++t) {
      store(a.db + (batch * a.length + t) * a.d_xbc_stride, m.db + t * wide, wide);
      store(a.dc + (batch * a.length + t) * a.d_xbc_stride, m.dc + t * wide, wide);
    }
  }
}

#define ISTHMUS_FOR(Act)                                              \
  template void ssd(stream&, const ssd_args<Act>&);                   \
  template void ssd_backward(stream&, const ssd_backward_args<Act>&); \
  template void ssd_step(stream&, const ssd_step_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
