#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

#include <numeric>

namespace isthmus::kernels::reference {

template <class Act>
void layer_norm(stream&, const layer_norm_args<Act>& a) {
  using R = real<Act>;
  const auto n = static_cast<R>(a.cols);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const R* x = a.residual ? a.residual + r * a.cols : nullptr;
    if (a.branch) {
      R* sum = a.x + r * a.cols;
      for (std::int64_t c = 0; c < a.cols; ++c) sum[c] = (x ? x[c] : R{0}) + load(a.branch[r * a.cols + c]);
      x = sum;
    }
    const R mean = std::accumulate(x, x + a.cols, R{0}) / n;
    R squares = 0;
    for (std::int64_t c = 0; c < a.cols; ++c) squares += (x[c] - mean) * (x[c] - mean);
    const R rstd = 1 / std::sqrt(squares / n + a.eps);
    for (std::int64_t c = 0; c < a.cols; ++c) a.y[r * a.cols + c] = static_cast<Act>((x[c] - mean) * rstd * a.gain[c] + a.bias[c]);
    a.mean[r] = mean;
    a.rstd[r] = rstd;
  }
}

template <class Act>
void layer_norm_backward(stream&, const layer_norm_backward_args<Act>& a) {
  using R = real<Act>;
  const auto n = static_cast<R>(a.cols);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Act* dy = a.dy + r * a.cols;
    const R* x = a.x + r * a.cols;
    const R mean = a.mean[r], rstd = a.rstd[r];
    R sum = 0, along = 0;  // of g, of g n
    for (std::int64_t c = 0; c < a.cols; ++c) {
      const R g = a.gain[c] * load(dy[c]);
      sum += g;
      along += g * (x[c] - mean) * rstd;
    }
    for (std::int64_t c = 0; c < a.cols; ++c) {
      const R past = a.d_residual ? a.d_residual[r * a.cols + c] : R{0}, normal = (x[c] - mean) * rstd;
      const R dx = past + rstd * (a.gain[c] * load(dy[c]) - sum / n - normal * along / n);
      a.d_gain[c] += load(dy[c]) * normal;
      a.d_bias[c] += load(dy[c]);
      a.dx[r * a.cols + c] = dx;
      if (a.d_branch) a.d_branch[r * a.cols + c] = static_cast<Act>(dx);
    }
  }
}

template <class Act>
void bias(stream&, const bias_args<Act>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r)
    for (std::int64_t c = 0; c < a.cols; ++c) a.y[r * a.y_stride + c] = static_cast<Act>(load(a.y[r * a.y_stride + c]) + a.bias[c]);
}

template <class Act>
void bias_backward(stream&, const bias_backward_args<Act>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r)
    for (std::int64_t c = 0; c < a.cols; ++c) a.d_bias[c] += load(a.dy[r * a.dy_stride + c]);
}

#define ISTHMUS_FOR(Act)                                                            \
  template void layer_norm(stream&, const layer_norm_args<Act>&);                   \
  template void layer_norm_backward(stream&, const layer_norm_backward_args<Act>&); \
  template void bias(stream&, const bias_args<Act>&);                               \
  template void bias_backward(stream&, const bias_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
