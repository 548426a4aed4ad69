#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::reference {

namespace {

/// What the state of one channel moves by at one row: h <- exp(delta rate[n]) h + (delta x) b[n].
template <class Act, class Args>
struct channel_row {
  using R = real<Act>;
  R pre, delta, x;
  channel_row(const Args& a, std::int64_t row, std::int64_t e)
      : pre(load(a.dt[row * a.dt_stride + e]) + a.dt_bias[e]), delta(softplus(pre)), x(load(a.x[row * a.x_stride + e])) {}
  void move(const R* before, const R* rate, const Act* b, std::int64_t state, R* after) const {
    for (std::int64_t n = 0; n < state; ++n) after[n] = exp_of(delta * rate[n]) * before[n] + delta * x * load(b[n]);
  }
};

template <class Act>
void rates_of(const real<Act>* a_log, std::int64_t state, real<Act>* rate) {
  for (std::int64_t n = 0; n < state; ++n) rate[n] = -exp_of(a_log[n]);
}

}  // namespace

template <class Act>
void selective_scan(stream& s, const selective_scan_args<Act>& a) {
  using R = real<Act>;
  const std::int64_t chunks = (a.length + a.chunk - 1) / a.chunk;
  R* h = scratch<Act>(s, 2 * a.state);
  R* rate = h + a.state;
  for (std::int64_t i = 0; i < a.batch * a.channels; ++i) {
    const std::int64_t batch = i / a.channels, e = i % a.channels;
    rates_of<Act>(a.a_log + e * a.state, a.state, rate);
    for (std::int64_t n = 0; n < a.state; ++n) h[n] = a.initial ? a.initial[i * a.state + n] : R{0};
    for (std::int64_t t = 0; t < a.length; ++t) {
      if (a.states && t % a.chunk == 0) std::copy_n(h, a.state, a.states + ((batch * chunks + t / a.chunk) * a.channels + e) * a.state);
      const std::int64_t row = batch * a.length + t;
      const channel_row<Act, selective_scan_args<Act>> at(a, row, e);
      at.move(h, rate, a.b + row * a.bc_stride, a.state, h);
      R y = dot(h, a.c + row * a.bc_stride, a.state) + a.d[e] * at.x;
      if (a.z) {
        const R z = load(a.z[row * a.z_stride + e]);
        y *= z * sigmoid(z);
      }
      a.y[row * a.channels + e] = static_cast<Act>(y);
    }
    if (a.final) std::copy_n(h, a.state, a.final + i * a.state);
  }
}

template <class Act>
void selective_scan_step(stream& s, const selective_scan_step_args<Act>& a) {
  // clang-format off
  selective_scan<Act>(s, {.x = a.x, .dt = a.dt, .b = a.b, .c = a.c, .z = a.z, .dt_bias = a.dt_bias, .a_log = a.a_log, .d = a.d,
                          .y = a.y, .states = nullptr, .initial = a.h, .final = a.h, .batch = 1, .length = 1,
                          .channels = a.channels, .state = a.state, .chunk = 1, .x_stride = 0, .dt_stride = 0, .bc_stride = 0,
                          .z_stride = 0});
  // clang-format on
}

namespace {

/// Memory for one sequence: of a channel its states after each row of a chunk, rates and the adjoint of its state; sums over channels.
template <class R>
struct scan_scratch {
  R *states, *rate, *adjoint, *db, *dc;  // [chunk + 1, N], [N], [N], [length, N] twice
};

/// The gate of one row: dy of what is gated, and dz written.
template <class Act>
real<Act> through_gate(const selective_scan_backward_args<Act>& a, std::int64_t row, std::int64_t e, real<Act> y) {
  using R = real<Act>;
  const R dy = load(a.dy[row * a.channels + e]);
  if (!a.z) return dy;
  const R z = load(a.z[row * a.z_stride + e]), gate = sigmoid(z);
  a.dz[row * a.dz_stride + e] = static_cast<Act>(dy * y * silu_slope(z, gate));
  return dy * z * gate;
}

/// Rows [begin, end) of one channel, last first. On entry m.adjoint is the gradient of the state after row end - 1 that comes from
/// later rows, on return of the state before row `begin`.
template <class Act>
void scan_chunk_backward(const selective_scan_backward_args<Act>& a, std::int64_t batch, std::int64_t e, std::int64_t begin,
                         std::int64_t end, const scan_scratch<real<Act>>& m) {
  using R = real<Act>;
  using row_of = channel_row<Act, selective_scan_backward_args<Act>>;
  const std::int64_t chunks = (a.length + a.chunk - 1) / a.chunk;
  std::copy_n(a.states + ((batch * chunks + begin / a.chunk) * a.channels + e) * a.state, a.state, m.states);
  for (std::int64_t t = begin; t < end; ++t) {
    R* before = m.states + (t - begin) * a.state;
    const std::int64_t row = batch * a.length + t;
    row_of(a, row, e).move(before, m.rate, a.b + row * a.bc_stride, a.state, before + a.state);
  }
  for (std::int64_t t = end - 1; t >= begin; --t) {
    const std::int64_t row = batch * a.length + t;
    const row_of at(a, row, e);
    const Act *b = a.b + row * a.bc_stride, *c = a.c + row * a.bc_stride;
    const R *before = m.states + (t - begin) * a.state, *after = before + a.state;
    const R dy = through_gate(a, row, e, dot(after, c, a.state) + a.d[e] * at.x);
    R along_b = 0, d_delta = 0;
    for (std::int64_t n = 0; n < a.state; ++n) {
      const R g = m.adjoint[n] + dy * load(c[n]), decayed = g * exp_of(at.delta * m.rate[n]), d_exponent = decayed * before[n];
      m.dc[t * a.state + n] += dy * after[n];
      m.db[t * a.state + n] += g * at.delta * at.x;
      along_b += g * load(b[n]);
      d_delta += d_exponent * m.rate[n];
      a.d_a_log[e * a.state + n] += d_exponent * at.delta * m.rate[n];
      m.adjoint[n] = decayed;
    }
    const R d_raw = (d_delta + along_b * at.x) * sigmoid(at.pre);
    a.dx[row * a.dx_stride + e] = static_cast<Act>(at.delta * along_b + a.d[e] * dy);
    a.d_dt[row * a.d_dt_stride + e] = static_cast<Act>(d_raw);
    a.d_dt_bias[e] += d_raw;
    a.d_d[e] += dy * at.x;
  }
}

}  // namespace

template <class Act>
void selective_scan_backward(stream& s, const selective_scan_backward_args<Act>& a) {
  using R = real<Act>;
  R* memory = scratch<Act>(s, (a.chunk + 3) * a.state + 2 * a.length * a.state);
  R* rate = memory + (a.chunk + 1) * a.state;
  const scan_scratch<R> m{memory, rate, rate + a.state, rate + 2 * a.state, rate + (2 + a.length) * a.state};
  for (std::int64_t batch = 0; batch < a.batch; ++batch) {
    std::fill_n(m.db, 2 * a.length * a.state, R{0});
    for (std::int64_t e = 0; e < a.channels; ++e) {
      const std::int64_t i = (batch * a.channels + e) * a.state;
      rates_of<Act>(a.a_log + e * a.state, a.state, m.rate);
      for (std::int64_t n = 0; n < a.state; ++n) m.adjoint[n] = a.d_final ? a.d_final[i + n] : R{0};
      for (std::int64_t end = a.length; end > 0; end = (end - 1) / a.chunk * a.chunk)
        scan_chunk_backward(a, batch, e, (end - 1) / a.chunk * a.chunk, end, m);
      if (a.d_initial) std::copy_n(m.adjoint, a.state, a.d_initial + i);
    }
    for (std::int64_t t = 0; t < a.length; ++t) {
      store(a.db + (batch * a.length + t) * a.d_bc_stride, m.db + t * a.state, a.state);
      store(a.dc + (batch * a.length + t) * a.d_bc_stride, m.dc + t * a.state, a.state);
    }
  }
}

#define ISTHMUS_FOR(Act)                                                                    \
  template void selective_scan(stream&, const selective_scan_args<Act>&);                   \
  template void selective_scan_backward(stream&, const selective_scan_backward_args<Act>&); \
  template void selective_scan_step(stream&, const selective_scan_step_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
