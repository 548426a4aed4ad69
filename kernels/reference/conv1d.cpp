#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::reference {

namespace {

/// Input `t` of channel c of sequence b; t < 0 reaches into the rows before the first. at: x and initial as in conv1d_args.
template <class Args>
auto input(const Args& a, std::int64_t b, std::int64_t t, std::int64_t c) {
  if (t >= 0) return load(a.x[(b * a.length + t) * a.x_stride + c]);
  using R = decltype(load(*a.x));
  return a.initial ? load(a.initial[(b * (a.width - 1) + a.width - 1 + t) * a.channels + c]) : R{0};
}

/// What channel c has before its taps, at input x.
template <class Args, class Real>
Real start_of(const Args& a, std::int64_t c, Real x) {
  const Real bias = a.bias ? a.bias[c] : Real{0};
  return a.skip ? bias + a.skip[c] * x : bias;
}

/// The filter that channel c shares with its neighbours.
template <class Args>
std::int64_t filter_of(const Args& a, std::int64_t c) {
  return c / (a.channels / a.filters);
}

}  // namespace

template <class Act>
void conv1d(stream& s, const conv1d_args<Act>& a) {
  using R = real<Act>;
  const std::int64_t kept = a.width - 1;
  auto* last = reinterpret_cast<Act*>(s.workers.shared_scratch(static_cast<std::size_t>(kept * a.channels + 1) * sizeof(Act)));
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t t = 0; t < a.length; ++t) {
      for (std::int64_t c = 0; c < a.channels; ++c) {
        R sum = start_of(a, c, input(a, b, t, c));
        for (std::int64_t k = 0; k < a.width; ++k) sum += a.weight[filter_of(a, c) * a.width + k] * input(a, b, t - kept + k, c);
        a.y[(b * a.length + t) * a.channels + c] = static_cast<Act>(a.activation == conv_activation::silu ? sum * sigmoid(sum) : sum);
      }
    }
    if (!a.final) continue;
    for (std::int64_t k = 0; k < kept; ++k)  // through scratch, for final may be initial
      for (std::int64_t c = 0; c < a.channels; ++c) last[k * a.channels + c] = static_cast<Act>(input(a, b, a.length - kept + k, c));
    std::copy_n(last, kept * a.channels, a.final + b * kept * a.channels);
  }
}

template <class Act>
void conv1d_backward(stream& s, const conv1d_backward_args<Act>& a) {
  using R = real<Act>;
  const std::int64_t kept = a.width - 1;
  R* d_sum = scratch<Act>(s, a.length + kept);
  R* d_before = d_sum + a.length;  // of the rows before the first
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t c = 0; c < a.channels; ++c) {
      const R* weight = a.weight + filter_of(a, c) * a.width;
      R* d_weight = a.d_weight + filter_of(a, c) * a.width;
      for (std::int64_t t = 0; t < a.length; ++t) {
        const R x = input(a, b, t, c);
        R sum = start_of(a, c, x);
        for (std::int64_t k = 0; k < a.width; ++k) sum += weight[k] * input(a, b, t - kept + k, c);
        d_sum[t] = load(a.dy[(b * a.length + t) * a.channels + c]);
        if (a.activation == conv_activation::silu) d_sum[t] *= silu_slope(sum, sigmoid(sum));
        if (a.bias) a.d_bias[c] += d_sum[t];
        if (a.skip) a.d_skip[c] += d_sum[t] * x;
        for (std::int64_t k = 0; k < a.width; ++k) d_weight[k] += d_sum[t] * input(a, b, t - kept + k, c);
      }
      // Input t is in the final state at its place among the last width - 1.
      const auto gradient = [&](std::int64_t t) {
        R dx = a.skip && t >= 0 ? a.skip[c] * d_sum[t] : R{0};
        for (std::int64_t k = 0; k < a.width; ++k)
          if (t + kept - k >= 0 && t + kept - k < a.length) dx += weight[k] * d_sum[t + kept - k];
        const std::int64_t place = t - (a.length - kept);
        return a.d_final && place >= 0 ? dx + load(a.d_final[(b * kept + place) * a.channels + c]) : dx;
      };
      for (std::int64_t t = 0; t < a.length; ++t) a.dx[(b * a.length + t) * a.dx_stride + c] = static_cast<Act>(gradient(t));
      if (!a.d_initial) continue;
      for (std::int64_t i = 0; i < kept; ++i) d_before[i] = gradient(i - kept);  // all of them first: d_initial may be d_final
      for (std::int64_t i = 0; i < kept; ++i) a.d_initial[(b * kept + i) * a.channels + c] = static_cast<Act>(d_before[i]);
    }
  }
}

template <class Act>
void conv1d_step(stream& s, const conv1d_step_args<Act>& a) {
  conv1d<Act>(s, one_row_of(a));
}

#define ISTHMUS_FOR(Act)                                                    \
  template void conv1d(stream&, const conv1d_args<Act>&);                   \
  template void conv1d_backward(stream&, const conv1d_backward_args<Act>&); \
  template void conv1d_step(stream&, const conv1d_step_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
