#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::reference {

namespace {

/// One channel of one sequence: its filters' taps at lags 0 ... and -1 ..., and where its rows lie.
template <class Act>
struct channel_of {
  using R = real<Act>;
  const Act *v, *x1, *x2;
  const R *h, *h_back;
  R d;
  std::int64_t length, taps, stride;

  template <class Args>
  channel_of(const Args& a, std::int64_t b, std::int64_t c) : length(a.length), taps(std::min(a.taps, a.length)), stride(a.x_stride) {
    const std::int64_t at = b * a.length * a.x_stride + c, f = c / (a.channels / a.filters) * a.taps;
    v = a.v + at;
    x1 = a.x1 ? a.x1 + at : nullptr;
    x2 = a.x2 ? a.x2 + at : nullptr;
    h = a.h + f;
    h_back = a.h_back ? a.h_back + f : nullptr;
    d = a.d ? a.d[c] : R{0};
  }
  static R gate(const Act* x, std::int64_t at) { return x ? load(x[at]) : R{1}; }
  R w(std::int64_t t) const { return gate(x1, t * stride) * load(v[t * stride]); }
  R before_gate(std::int64_t t) const {
    R sum = d * w(t);
    for (std::int64_t k = 0; k < std::min(taps, t + 1); ++k) sum += h[k] * w(t - k);
    if (h_back)
      for (std::int64_t s = 0; s < std::min(taps, length - 1 - t); ++s) sum += h_back[s] * w(t + 1 + s);
    return sum;
  }
};

}  // namespace

std::unique_ptr<long_conv_plan> make_long_conv_plan(std::int64_t length) { return std::make_unique<long_conv_plan>(length); }

template <class Act>
void long_conv(stream&, const long_conv_args<Act>& a) {
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t c = 0; c < a.channels; ++c) {
      const channel_of<Act> of(a, b, c);
      for (std::int64_t t = 0; t < a.length; ++t)
        a.y[(b * a.length + t) * a.y_stride + c] = static_cast<Act>(of.gate(of.x2, t * a.x_stride) * of.before_gate(t));
    }
  }
}

template <class Act>
void long_conv_backward(stream& s, const long_conv_backward_args<Act>& a) {
  using R = real<Act>;
  R *w = scratch<Act>(s, 3 * a.length), *dc = w + a.length, *dw = dc + a.length;
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t c = 0; c < a.channels; ++c) {
      const channel_of<Act> of(a, b, c);
      const std::int64_t f = c / (a.channels / a.filters) * a.taps, at = b * a.length * a.dx_stride + c;
      for (std::int64_t t = 0; t < a.length; ++t) {
        const R dy = load(a.dy[(b * a.length + t) * a.dy_stride + c]);
        w[t] = of.w(t);
        dc[t] = dy * of.gate(of.x2, t * a.x_stride);
        dw[t] = of.d * dc[t];
        if (a.d) a.dd[c] += dc[t] * w[t];
        if (a.x2) a.dx2[at + t * a.dx_stride] = static_cast<Act>(dy * of.before_gate(t));
      }
      for (std::int64_t t = 0; t < a.length; ++t) {
        for (std::int64_t k = 0; k < std::min(of.taps, t + 1); ++k) {
          dw[t - k] += of.h[k] * dc[t];
          a.dh[f + k] += dc[t] * w[t - k];
        }
        for (std::int64_t i = 0; of.h_back && i < std::min(of.taps, a.length - 1 - t); ++i) {
          dw[t + 1 + i] += of.h_back[i] * dc[t];
          a.dh_back[f + i] += dc[t] * w[t + 1 + i];
        }
      }
      for (std::int64_t t = 0; t < a.length; ++t) {
        a.dv[at + t * a.dx_stride] = static_cast<Act>(dw[t] * of.gate(of.x1, t * a.x_stride));
        if (a.x1) a.dx1[at + t * a.dx_stride] = static_cast<Act>(dw[t] * load(of.v[t * a.x_stride]));
      }
    }
  }
}

#define ISTHMUS_FOR(Act)                                        \
  template void long_conv(stream&, const long_conv_args<Act>&); \
  template void long_conv_backward(stream&, const long_conv_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
