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

template <class Act>
void modal_scan(stream& s, const modal_scan_args<Act>& a) {
  using R = real<Act>;
  const std::int64_t size = a.modes * parts(a.form);
  auto* states = reinterpret_cast<pair<R>*>(scratch<Act>(s, 2 * a.modes));
  for (std::int64_t i = 0; i < a.batch * a.channels; ++i) {
    const std::int64_t b = i / a.channels, c = i % a.channels, at = b * a.length * a.x_stride + c;
    for (std::int64_t n = 0; n < a.modes; ++n) {
      states[n] = a.initial && a.form == modal_form::complex ? pair<R>{a.initial[i * size + 2 * n], a.initial[i * size + 2 * n + 1]}
                                                             : pair<R>{a.initial ? a.initial[i * size + n] : R{0}, 0};
    }
    for (std::int64_t t = 0; t < a.length; ++t) {
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
    for (std::int64_t n = 0; a.final && n < a.modes; ++n) {
      a.final[i * size + n * parts(a.form)] = states[n].re;
      if (a.form == modal_form::complex) a.final[i * size + 2 * n + 1] = states[n].im;
    }
  }
}

template <class Act>
void modal_step(stream& s, const modal_step_args<Act>& a) {
  modal_scan<Act>(s, one_row_of(a));
}

#define ISTHMUS_FOR(Act)                                          \
  template void modal_scan(stream&, const modal_scan_args<Act>&); \
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
