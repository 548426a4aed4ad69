#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda {

namespace {

constexpr int rows_a_block = 4, threads = rows_a_block * warp_size;  // one warp a row

__device__ std::int64_t row_of_warp() { return static_cast<std::int64_t>(blockIdx.x) * rows_a_block + threadIdx.x / warp_size; }
__device__ int lane() { return static_cast<int>(threadIdx.x % warp_size); }

template <class Act>
__global__ void layer_norm_rows(layer_norm_args<Act> a) {
  const std::int64_t r = row_of_warp();
  if (r >= a.rows) return;
  const float* x = a.residual ? a.residual + r * a.cols : nullptr;
  float* joined = a.x + r * a.cols;
  const auto n = static_cast<float>(a.cols);
  float total = 0;
  for (std::int64_t c = lane(); c < a.cols; c += warp_size) {
    float v = x ? x[c] : 0.0F;
    if (a.branch) joined[c] = v += wide(a.branch[r * a.cols + c]);
    total += v;
  }
  if (a.branch) x = joined;  // each lane reads what it wrote itself
  const float mean = warp_sum(total) / n;
  float squares = 0;
  for (std::int64_t c = lane(); c < a.cols; c += warp_size) squares += (x[c] - mean) * (x[c] - mean);
  const float rstd = 1 / sqrtf(warp_sum(squares) / n + a.eps);
  for (std::int64_t c = lane(); c < a.cols; c += warp_size) a.y[r * a.cols + c] = narrow<Act>((x[c] - mean) * rstd * a.gain[c] + a.bias[c]);
  if (lane() == 0) {
    a.mean[r] = mean;
    a.rstd[r] = rstd;
  }
}

template <class Act>
__global__ void layer_norm_backward_rows(layer_norm_backward_args<Act> a) {
  const std::int64_t r = row_of_warp();
  if (r >= a.rows) return;
  const Act* dy = a.dy + r * a.cols;
  const float* x = a.x + r * a.cols;
  const float mean = a.mean[r], rstd = a.rstd[r], n = static_cast<float>(a.cols);
  float total = 0, along = 0;
  for (std::int64_t c = lane(); c < a.cols; c += warp_size) {
    const float g = a.gain[c] * wide(dy[c]);
    total += g;
    along += g * (x[c] - mean) * rstd;
  }
  const float level = warp_sum(total) / n, pull = warp_sum(along) / n;
  for (std::int64_t c = lane(); c < a.cols; c += warp_size) {
    const std::int64_t at = r * a.cols + c;
    const float dx = (a.d_residual ? a.d_residual[at] : 0.0F) + rstd * (a.gain[c] * wide(dy[c]) - level - (x[c] - mean) * rstd * pull);
    a.dx[at] = dx;
    if (a.d_branch) a.d_branch[at] = narrow<Act>(dx);
  }
}

template <class Act>
struct gain_term {
  const Act* dy;
  const float *x, *mean, *rstd;
  std::int64_t cols;
  __device__ float operator()(std::int64_t r, std::int64_t c) const {
    return wide(dy[r * cols + c]) * (x[r * cols + c] - mean[r]) * rstd[r];
  }
  __device__ float4 four(std::int64_t r, std::int64_t c) const {
    const float4 d = load4(dy + r * cols + c), v = load4(x + r * cols + c);
    const float by = rstd[r], from = mean[r];
    return {d.x * (v.x - from) * by, d.y * (v.y - from) * by, d.z * (v.z - from) * by, d.w * (v.w - from) * by};
  }
};

template <class Act>
struct bias_term {
  const Act* dy;
  std::int64_t stride;
  __device__ float operator()(std::int64_t r, std::int64_t c) const { return wide(dy[r * stride + c]); }
  __device__ float4 four(std::int64_t r, std::int64_t c) const { return load4(dy + r * stride + c); }
};

template <class Act>
__global__ void bias_elements(bias_args<Act> a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, r = i / a.cols, c = i % a.cols;
  if (r < a.rows) a.y[r * a.y_stride + c] = narrow<Act>(wide(a.y[r * a.y_stride + c]) + a.bias[c]);
}

}  // namespace

template <class Act>
void layer_norm(stream& s, const layer_norm_args<Act>& a) {
  launch(queue_of(s), "layer_norm", layer_norm_rows<Act>, static_cast<unsigned>(ceil_div(a.rows, rows_a_block)), threads, 0, a);
}

template <class Act>
void layer_norm_backward(stream& s, const layer_norm_backward_args<Act>& a) {
  queue& q = queue_of(s);
  const bool vectors = fours(a.cols, a.dy, a.x);
  add_column_sums(q, gain_term<Act>{a.dy, a.x, a.mean, a.rstd, a.cols}, a.rows, a.cols, vectors, a.d_gain);
  add_column_sums(q, bias_term<Act>{a.dy, a.cols}, a.rows, a.cols, vectors, a.d_bias);
  launch(q, "layer_norm_backward", layer_norm_backward_rows<Act>, static_cast<unsigned>(ceil_div(a.rows, rows_a_block)), threads, 0, a);
}

template <class Act>
void bias(stream& s, const bias_args<Act>& a) {
  launch(queue_of(s), "bias", bias_elements<Act>, static_cast<unsigned>(ceil_div(a.rows * a.cols, threads)), threads, 0, a);
}

template <class Act>
void bias_backward(stream& s, const bias_backward_args<Act>& a) {
  add_column_sums(queue_of(s), bias_term<Act>{a.dy, a.dy_stride}, a.rows, a.cols, fours(a.cols | a.dy_stride, a.dy), a.d_bias);
}

#define ISTHMUS_FOR(Act)                                                            \
  template void layer_norm(stream&, const layer_norm_args<Act>&);                   \
  template void layer_norm_backward(stream&, const layer_norm_backward_args<Act>&); \
  template void bias(stream&, const bias_args<Act>&);                               \
  template void bias_backward(stream&, const bias_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
