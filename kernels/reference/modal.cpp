#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::reference {

namespace {

/// A complex number; std::complex would multiply with care for infinities.
template <class R>
struct pair {
  R re, im;
};
template <class R>
pair<R> operator*(pair<R> a, pair<R> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

/// Numbers that a mode has in memory.
std::int64_t parts(modal_form form) { return form == modal_form::complex ? 2 : 1; }

template <class R>
pair<R> pole_of(modal_form form, const R* poles, std::int64_t mode) {
  if (form == modal_form::complex) return {poles[2 * mode], poles[2 * mode + 1]};
  return {static_cast<R>(std::exp(static_cast<double>(poles[mode]))), 0};
}
template <class R>
pair<R> residue_of(modal_form form, const R* residues, std::int64_t mode) {
  if (form == modal_form::complex) return {residues[2 * mode], residues[2 * mode + 1]};
  return {residues[mode], 0};
}

/// In double, for powers.
template <class R>
pair<double> wide_pole_of(modal_form form, const R* poles, std::int64_t mode) {
  if (form == modal_form::decays) return {std::exp(static_cast<double>(poles[mode])), 0};
  return {static_cast<double>(poles[2 * mode]), static_cast<double>(poles[2 * mode + 1])};
}

}  // namespace

template <class Real>
void modal_filter(stream&, const modal_filter_args<Real>& a) {
  std::fill_n(a.h, a.filters * a.taps, Real{0});
  for (std::int64_t i = 0; i < a.filters * a.modes; ++i) {
    const auto pole = wide_pole_of(a.form, a.poles, i);
    const auto residue = residue_of(a.form, a.residues, i);
    Real* h = a.h + i / a.modes * a.taps;
    pair<double> term{static_cast<double>(residue.re), static_cast<double>(residue.im)};
    for (std::int64_t k = 0; k < a.taps; ++k, term = term * pole) h[k] += static_cast<Real>(term.re);
  }
}

template <class Real>
void modal_filter_backward(stream&, const modal_filter_backward_args<Real>& a) {
  for (std::int64_t i = 0; i < a.filters * a.modes; ++i) {
    const auto pole = wide_pole_of(a.form, a.poles, i);
    const auto narrow = residue_of(a.form, a.residues, i);
    const Real* dh = a.dh + i / a.modes * a.taps;
    pair<double> power{1, 0}, slope_now{0, 0}, sum{0, 0}, slope{0, 0};  // p^k, k p^(k-1); sums over k of dh times both
    for (std::int64_t k = 0; k < a.taps; ++k) {
      const auto g = static_cast<double>(dh[k]);
      sum = {sum.re + g * power.re, sum.im + g * power.im};
      slope = {slope.re + g * slope_now.re, slope.im + g * slope_now.im};
      slope_now = slope_now * pole;
      slope_now = {slope_now.re + power.re, slope_now.im + power.im};  // (k+1) p^k
      power = power * pole;
    }
    const auto q = slope * pair<double>{static_cast<double>(narrow.re), static_cast<double>(narrow.im)};
    if (a.form == modal_form::complex) {
      a.d_residues[2 * i] += static_cast<Real>(sum.re);
      a.d_residues[2 * i + 1] -= static_cast<Real>(sum.im);
      a.d_poles[2 * i] += static_cast<Real>(q.re);
      a.d_poles[2 * i + 1] -= static_cast<Real>(q.im);
    } else {
      a.d_residues[i] += static_cast<Real>(sum.re);
      a.d_poles[i] += static_cast<Real>(q.re * pole.re);
    }
  }
}

namespace {

/// The states of one channel from memory, zeros from null, and back.
template <class R>
void read_states(modal_form form, const R* from, std::int64_t modes, pair<R>* to) {
  for (std::int64_t n = 0; n < modes; ++n) to[n] = from ? residue_of(form, from, n) : pair<R>{0, 0};
}
template <class R>
void keep_states(modal_form form, const pair<R>* from, std::int64_t modes, R* to) {
  for (std::int64_t n = 0; n < modes; ++n) {
    to[n * parts(form)] = from[n].re;
    if (form == modal_form::complex) to[2 * n + 1] = from[n].im;
  }
}

}  // namespace

template <class Act>
void modal_scan(stream& s, const modal_scan_args<Act>& a) {
  using R = real<Act>;
  const std::int64_t size = a.modes * parts(a.form);
  auto* states = reinterpret_cast<pair<R>*>(scratch<Act>(s, 2 * a.modes));
  for (std::int64_t i = 0; i < a.batch * a.channels; ++i) {
    const std::int64_t b = i / a.channels, c = i % a.channels, at = b * a.length * a.x_stride + c;
    read_states(a.form, a.initial ? a.initial + i * size : nullptr, a.modes, states);
    const std::int64_t chunks = (a.length + modal_scan_chunk - 1) / modal_scan_chunk;
    for (std::int64_t t = 0; t < a.length; ++t) {
      if (a.states && t % modal_scan_chunk == 0)
        keep_states(a.form, states, a.modes, a.states + ((b * chunks + t / modal_scan_chunk) * a.channels + c) * size);
      const auto gate = [&](const Act* x) { return x ? load(x[at + t * a.x_stride]) : R{1}; };
      const R w = gate(a.x1) * load(a.v[at + t * a.x_stride]);
      R sum = a.d ? a.d[c] * w : R{0};
      for (std::int64_t n = 0; n < a.modes; ++n) {
        states[n] = states[n] * pole_of(a.form, a.poles, c * a.modes + n);
        states[n].re += w;
        sum += (states[n] * residue_of(a.form, a.residues, c * a.modes + n)).re;
      }
      a.y[(b * a.length + t) * a.y_stride + c] = static_cast<Act>(gate(a.x2) * sum);
    }
    if (a.final) keep_states(a.form, states, a.modes, a.final + i * size);
  }
}

namespace {

/// One channel of one sequence: its states after each row of a chunk, their gradient, and what it adds to its parameters'.
template <class R>
struct channel_memory {
  pair<R>*states, *gradient;  // [modal_scan_chunk + 1, modes], [modes]
};

/// Rows [begin, end) of channel c of sequence b, last first. On entry m.gradient is that of the state after row end - 1, on return of the state
/// before row `begin`.
template <class Act>
void modal_chunk_backward(const modal_scan_backward_args<Act>& a, std::int64_t b, std::int64_t c, std::int64_t begin, std::int64_t end,
                          const channel_memory<real<Act>>& m) {
  using R = real<Act>;
  const std::int64_t chunks = (a.length + modal_scan_chunk - 1) / modal_scan_chunk, size = a.modes * parts(a.form);
  const auto pole = [&](std::int64_t n) { return pole_of(a.form, a.poles, c * a.modes + n); };
  const auto residue = [&](std::int64_t n) { return residue_of(a.form, a.residues, c * a.modes + n); };
  const auto at = [&](const Act* x, std::int64_t t) { return x ? load(x[(b * a.length + t) * a.x_stride + c]) : R{1}; };
  read_states(a.form, a.states + ((b * chunks + begin / modal_scan_chunk) * a.channels + c) * size, a.modes, m.states);
  for (std::int64_t t = begin; t < end; ++t) {
    for (std::int64_t n = 0; n < a.modes; ++n) {
      pair<R>& after = m.states[(t - begin + 1) * a.modes + n];
      after = m.states[(t - begin) * a.modes + n] * pole(n);
      after.re += at(a.x1, t) * at(a.v, t);
    }
  }
  for (std::int64_t t = end - 1; t >= begin; --t) {
    const std::int64_t row = (b * a.length + t) * a.dx_stride + c;
    const R w = at(a.x1, t) * at(a.v, t), dy = load(a.dy[(b * a.length + t) * a.dy_stride + c]), d_sum = dy * at(a.x2, t);
    R sum = a.d ? a.d[c] * w : R{0}, dw = a.d ? a.d[c] * d_sum : R{0};
    if (a.d) a.d_d[c] += d_sum * w;
    for (std::int64_t n = 0; n < a.modes; ++n) {
      const std::int64_t i = (c * a.modes + n) * parts(a.form);
      const pair<R> s = m.states[(t - begin + 1) * a.modes + n], before = m.states[(t - begin) * a.modes + n], r = residue(n), p = pole(n);
      pair<R>& g = m.gradient[n];
      sum += (s * r).re;
      g = {g.re + d_sum * r.re, g.im - d_sum * r.im};
      dw += g.re;
      const pair<R> d_pole = g * pair<R>{before.re, -before.im};
      a.d_residues[i] += d_sum * s.re;
      a.d_poles[i] += a.form == modal_form::complex ? d_pole.re : d_pole.re * p.re;
      if (a.form == modal_form::complex) {
        a.d_residues[i + 1] -= d_sum * s.im;
        a.d_poles[i + 1] += d_pole.im;
      }
      g = g * pair<R>{p.re, -p.im};
    }
    if (a.x2) a.dx2[row] = static_cast<Act>(dy * sum);
    if (a.x1) a.dx1[row] = static_cast<Act>(dw * at(a.v, t));
    a.dv[row] = static_cast<Act>(dw * at(a.x1, t));
  }
}

}  // namespace

template <class Act>
void modal_scan_backward(stream& s, const modal_scan_backward_args<Act>& a) {
  using R = real<Act>;
  auto* memory = reinterpret_cast<pair<R>*>(scratch<Act>(s, 2 * (modal_scan_chunk + 2) * a.modes));
  const channel_memory<R> m{memory, memory + (modal_scan_chunk + 1) * a.modes};
  for (std::int64_t i = 0; i < a.batch * a.channels; ++i) {
    const std::int64_t size = a.modes * parts(a.form);
    read_states(a.form, a.d_final ? a.d_final + i * size : nullptr, a.modes, m.gradient);
    for (std::int64_t end = a.length; end > 0; end = (end - 1) / modal_scan_chunk * modal_scan_chunk)
      modal_chunk_backward(a, i / a.channels, i % a.channels, (end - 1) / modal_scan_chunk * modal_scan_chunk, end, m);
    if (a.d_initial) keep_states(a.form, m.gradient, a.modes, a.d_initial + i * size);
  }
}

template <class Act>
void modal_step(stream& s, const modal_step_args<Act>& a) {
  modal_scan<Act>(s, one_row_of(a));
}

#define ISTHMUS_FOR(Act)                                                            \
  template void modal_scan(stream&, const modal_scan_args<Act>&);                   \
  template void modal_scan_backward(stream&, const modal_scan_backward_args<Act>&); \
  template void modal_step(stream&, const modal_step_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR
#define ISTHMUS_FOR(Real)                                              \
  template void modal_filter(stream&, const modal_filter_args<Real>&); \
  template void modal_filter_backward(stream&, const modal_filter_backward_args<Real>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
