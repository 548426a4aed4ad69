#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

#include <numbers>

namespace isthmus::kernels::reference {

namespace {

/// A function's value and slope.
template <class Real>
struct curve {
  Real value, slope;
};

template <class Real>
curve<Real> curve_of(activation_kind kind, Real at) {
  const auto x = static_cast<double>(at);
  double value = 0, slope = 0;
  switch (kind) {
    case activation_kind::silu: {
      const Real s = sigmoid(at);
      return {at * s, silu_slope(at, s)};
    }
    case activation_kind::gelu: {
      const double phi = 0.5 * std::erfc(-x / std::numbers::sqrt2);
      value = x * phi;
      slope = phi + x * std::exp(-0.5 * x * x) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
      break;
    }
    case activation_kind::gelu_tanh: {
      const double root = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;  // sqrt(2 / pi)
      const double t = std::tanh(root * (x + 0.044715 * x * x * x));
      value = 0.5 * x * (1 + t);
      slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x);
      break;
    }
    case activation_kind::relu2:
      value = x < 0 ? 0 : x * x;  // a NaN stays one
      slope = x < 0 ? 0 : 2 * x;
      break;
  }
  return {static_cast<Real>(value), static_cast<Real>(slope)};
}

}  // namespace

template <class Act>
void activation(stream&, const activation_args<Act>& a) {
  const std::int64_t wide = a.gated ? 2 * a.hidden : a.hidden;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Act* x = a.x + r * wide;
    for (std::int64_t c = 0; c < a.hidden; ++c) {
      const real<Act> f = curve_of(a.kind, load(x[c])).value;
      a.y[r * a.hidden + c] = static_cast<Act>(a.gated ? f * load(x[a.hidden + c]) : f);
    }
  }
}

template <class Act>
void activation_backward(stream&, const activation_backward_args<Act>& a) {
  const std::int64_t wide = a.gated ? 2 * a.hidden : a.hidden;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Act* x = a.x + r * wide;
    Act* dx = a.dx + r * wide;
    for (std::int64_t c = 0; c < a.hidden; ++c) {
      const auto f = curve_of(a.kind, load(x[c]));
      const real<Act> dy = load(a.dy[r * a.hidden + c]), up = a.gated ? load(x[a.hidden + c]) : 1;
      dx[c] = static_cast<Act>(dy * up * f.slope);
      if (a.gated) dx[a.hidden + c] = static_cast<Act>(dy * f.value);
      if (a.y) a.y[r * a.hidden + c] = static_cast<Act>(f.value * up);
    }
  }
}

#define ISTHMUS_FOR(Act)                                          \
  template void activation(stream&, const activation_args<Act>&); \
  template void activation_backward(stream&, const activation_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
