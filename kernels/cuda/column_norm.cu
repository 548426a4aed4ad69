#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda {

namespace {

// A warp a row.
template <class Act>
__device__ float rstd_of(const Act* x, std::int64_t cols, float eps) {
  float squares = 0;
  for (std::int64_t c = threadIdx.x; c < cols; c += warp_size) squares += wide(x[c]) * wide(x[c]);
  return 1 / sqrtf(warp_sum(squares) / static_cast<float>(cols) + eps);
}

template <class Act>
__global__ void column_norm_rows(column_norm_args<Act> a) {
  const Act* x = a.x + blockIdx.x * a.x_stride;
  const float rstd = rstd_of(x, a.cols, a.eps);
  for (std::int64_t c = threadIdx.x; c < a.cols; c += warp_size)
    a.y[blockIdx.x * a.y_stride + c] = narrow<Act>(wide(x[c]) * a.gain[c] * rstd);
}

/// terms: [rows, cols], whose sums over rows are d_gain.
template <class Act>
__global__ void column_norm_backward_rows(column_norm_backward_args<Act> a, float* terms) {
  const std::int64_t r = blockIdx.x;
  const Act *x = a.x + r * a.x_stride, *dy = a.dy + r * a.dy_stride;
  const float rstd = rstd_of(x, a.cols, a.eps);
  float along = 0;
  for (std::int64_t c = threadIdx.x; c < a.cols; c += warp_size) along += a.gain[c] * wide(dy[c]) * wide(x[c]);
  const float pull = warp_sum(along) * rstd * rstd * rstd / static_cast<float>(a.cols);
  for (std::int64_t c = threadIdx.x; c < a.cols; c += warp_size) {
    const float d = wide(dy[c]), v = wide(x[c]);
    terms[r * a.cols + c] = d * v * rstd;
    a.dx[r * a.dx_stride + c] = narrow<Act>(rstd * a.gain[c] * d - v * pull);
  }
}

/// sums[c] += the terms of column c in ascending order of rows: a thread a column.
__global__ void add_terms(const float* terms, std::int64_t rows, std::int64_t cols, float* sums) {
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * warp_size + threadIdx.x;
  if (c >= cols) return;
  float sum = 0;
  for (std::int64_t r = 0; r < rows; ++r) sum += terms[r * cols + c];
  sums[c] += sum;
}

}  // namespace

template <class Act>
void column_norm(stream& s, const column_norm_args<Act>& a) {
  launch(queue_of(s), "column_norm", column_norm_rows<Act>, static_cast<unsigned>(a.rows), warp_size, 0, a);
}

template <class Act>
void column_norm_backward(stream& s, const column_norm_backward_args<Act>& a) {
  queue& q = queue_of(s);
  float* terms = q.scratch_floats(a.rows * a.cols);
  launch(q, "column_norm_backward", column_norm_backward_rows<Act>, static_cast<unsigned>(a.rows), warp_size, 0, a, terms);
  launch(q, "column_norm_backward's sums", add_terms, static_cast<unsigned>(ceil_div(a.cols, warp_size)), warp_size, 0, terms, a.rows,
         a.cols, a.d_gain);
}

#define ISTHMUS_FOR(Act)                                            \
  template void column_norm(stream&, const column_norm_args<Act>&); \
  template void column_norm_backward(stream&, const column_norm_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
