#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

namespace isthmus::kernels::reference {

template <class Act>
void rms_norm(stream&, const rms_norm_args<Act>& a) {
  using R = real<Act>;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const R* x = a.residual + r * a.cols;
    if (a.branch) {
      R* sum = a.x + r * a.cols;
      for (std::int64_t c = 0; c < a.cols; ++c) sum[c] = x[c] + load(a.branch[r * a.cols + c]);
      x = sum;
    }
    const R rstd = 1 / std::sqrt(dot(x, x, a.cols) / static_cast<R>(a.cols) + a.eps);
    for (std::int64_t c = 0; c < a.cols; ++c) a.y[r * a.cols + c] = static_cast<Act>(x[c] * a.gain[c] * rstd);
    a.rstd[r] = rstd;
  }
}

template <class Act>
void rms_norm_backward(stream&, const rms_norm_backward_args<Act>& a) {
  using R = real<Act>;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Act* dy = a.dy + r * a.cols;
    const R* x = a.x + r * a.cols;
    const R rstd = a.rstd[r];
    R along = 0;  // sum_c gain dy x
    for (std::int64_t c = 0; c < a.cols; ++c) along += a.gain[c] * load(dy[c]) * x[c];
    const R pull = along * rstd * rstd * rstd / static_cast<R>(a.cols);
    for (std::int64_t c = 0; c < a.cols; ++c) {
      const R past = a.d_residual ? a.d_residual[r * a.cols + c] : R{0};
      const R dx = past + (rstd * a.gain[c] * load(dy[c]) - x[c] * pull);
      a.d_gain[c] += load(dy[c]) * x[c] * rstd;
      a.dx[r * a.cols + c] = dx;
      if (a.d_branch) a.d_branch[r * a.cols + c] = static_cast<Act>(dx);
    }
  }
}

template <class Act>
void gated_norm(stream&, const gated_norm_args<Act>& a) {
  using R = real<Act>;
  const std::int64_t width = a.cols / a.groups;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t g = 0; g < a.groups; ++g) {
      const Act* y = a.y + r * a.cols + g * width;
      const Act* z = a.z + r * a.z_stride + g * width;
      const auto gated = [&](std::int64_t c) { return load(y[c]) * (load(z[c]) * sigmoid(load(z[c]))); };
      R squares = 0;
      for (std::int64_t c = 0; c < width; ++c) squares += gated(c) * gated(c);
      const R rstd = 1 / std::sqrt(squares / static_cast<R>(width) + a.eps);
      for (std::int64_t c = 0; c < width; ++c)
        a.out[r * a.cols + g * width + c] = static_cast<Act>(gated(c) * a.gain[g * width + c] * rstd);
      a.rstd[r * a.groups + g] = rstd;
    }
  }
}

template <class Act>
void gated_norm_backward(stream&, const gated_norm_backward_args<Act>& a) {
  using R = real<Act>;
  const std::int64_t width = a.cols / a.groups;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t g = 0; g < a.groups; ++g) {
      const std::int64_t at = r * a.cols + g * width;
      const Act* z = a.z + r * a.z_stride + g * width;
      const R* gain = a.gain + g * width;
      const R rstd = a.rstd[r * a.groups + g];
      R along = 0;  // sum_c gain d_out v
      for (std::int64_t c = 0; c < width; ++c) {
        const R zc = load(z[c]);
        along += gain[c] * load(a.d_out[at + c]) * (load(a.y[at + c]) * (zc * sigmoid(zc)));
      }
      const R pull = along * rstd * rstd * rstd / static_cast<R>(width);
      for (std::int64_t c = 0; c < width; ++c) {
        const R zc = load(z[c]), yc = load(a.y[at + c]), s = sigmoid(zc), v = yc * (zc * s), d_out = load(a.d_out[at + c]);
        const R dv = rstd * gain[c] * d_out - v * pull;
        a.d_gain[g * width + c] += d_out * v * rstd;
        a.dy[at + c] = static_cast<Act>(dv * (zc * s));
        a.dz[r * a.dz_stride + g * width + c] = static_cast<Act>(dv * yc * silu_slope(zc, s));
      }
    }
  }
}

namespace {

template <class Act>
real<Act> rstd_of(const Act* x, std::int64_t cols, real<Act> eps) {
  return 1 / std::sqrt(dot(x, x, cols) / static_cast<real<Act>>(cols) + eps);
}

}  // namespace

template <class Act>
void column_norm(stream&, const column_norm_args<Act>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Act* x = a.x + r * a.x_stride;
    const real<Act> rstd = rstd_of(x, a.cols, a.eps);
    for (std::int64_t c = 0; c < a.cols; ++c) a.y[r * a.y_stride + c] = static_cast<Act>(load(x[c]) * a.gain[c] * rstd);
  }
}

template <class Act>
void column_norm_backward(stream&, const column_norm_backward_args<Act>& a) {
  using R = real<Act>;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Act *x = a.x + r * a.x_stride, *dy = a.dy + r * a.dy_stride;
    const R rstd = rstd_of(x, a.cols, a.eps);
    R along = 0;
    for (std::int64_t c = 0; c < a.cols; ++c) along += a.gain[c] * load(dy[c]) * load(x[c]);
    const R pull = along * rstd * rstd * rstd / static_cast<R>(a.cols);
    for (std::int64_t c = 0; c < a.cols; ++c) {
      const R d = load(dy[c]);
      a.d_gain[c] += d * load(x[c]) * rstd;
      a.dx[r * a.dx_stride + c] = static_cast<Act>(rstd * a.gain[c] * d - load(x[c]) * pull);
    }
  }
}

#define ISTHMUS_FOR(Act)                                                              \
  template void rms_norm(stream&, const rms_norm_args<Act>&);                         \
  template void rms_norm_backward(stream&, const rms_norm_backward_args<Act>&);       \
  template void column_norm(stream&, const column_norm_args<Act>&);                   \
  template void column_norm_backward(stream&, const column_norm_backward_args<Act>&); \
  template void gated_norm(stream&, const gated_norm_args<Act>&);                     \
  template void gated_norm_backward(stream&, const gated_norm_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
