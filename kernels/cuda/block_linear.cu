#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda {

namespace {

constexpr int threads = 256;

/// A thread for each element: rows and columns from one index, so that there may be any number of either.
template <class Act>
__global__ void gate_elements(gate_args<Act> a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, r = i / a.cols, c = i % a.cols;
  if (r < a.rows) a.y[r * a.y_stride + c] = narrow<Act>(wide(a.a[r * a.a_stride + c]) * wide(a.b[r * a.b_stride + c]));
}
template <class Act>
__global__ void gate_backward_elements(gate_backward_args<Act> a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, r = i / a.cols, c = i % a.cols;
  if (r >= a.rows) return;
  const float dy = wide(a.dy[r * a.dy_stride + c]);
  a.db[r * a.db_stride + c] = narrow<Act>(dy * wide(a.a[r * a.a_stride + c]));
  a.da[r * a.da_stride + c] = narrow<Act>(dy * wide(a.b[r * a.b_stride + c]));
}

template <class Act>
__global__ void shuffle_elements(shuffle_args<Act> a) {
  const std::int64_t cols = a.outer * a.inner, at = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, r = at / cols,
                     c = at % cols;
  if (r < a.rows) a.y[at] = a.x[r * cols + c % a.outer * a.inner + c / a.outer];
}

template <class Act>
__global__ void add_elements(add_args<Act> a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, r = i / a.cols, c = i % a.cols;
  if (r < a.rows) a.y[r * a.y_stride + c] = narrow<Act>(wide(a.y[r * a.y_stride + c]) + wide(a.x[r * a.x_stride + c]));
}

}  // namespace

template <class Act>
void gate(stream& s, const gate_args<Act>& a) {
  launch(queue_of(s), "gate", gate_elements<Act>, static_cast<unsigned>(ceil_div(a.rows * a.cols, threads)), threads, 0, a);
}
template <class Act>
void gate_backward(stream& s, const gate_backward_args<Act>& a) {
  launch(queue_of(s), "gate_backward", gate_backward_elements<Act>, static_cast<unsigned>(ceil_div(a.rows * a.cols, threads)), threads, 0,
         a);
}

template <class Act>
void shuffle(stream& s, const shuffle_args<Act>& a) {
  launch(queue_of(s), "shuffle", shuffle_elements<Act>, static_cast<unsigned>(ceil_div(a.rows * a.outer * a.inner, threads)), threads, 0,
         a);
}

template <class Act>
void add(stream& s, const add_args<Act>& a) {
  launch(queue_of(s), "add", add_elements<Act>, static_cast<unsigned>(ceil_div(a.rows * a.cols, threads)), threads, 0, a);
}

template <class Act>
void block_linear(stream& s, const block_linear_args<Act>& a) {
  for (std::int64_t k = 0; k < a.blocks; ++k) linear(s, block_of(a, k));
}
template <class Act>
void block_linear_backward_input(stream& s, const block_linear_backward_input_args<Act>& a) {
  for (std::int64_t k = 0; k < a.blocks; ++k) linear_backward_input(s, block_of(a, k));
}
template <class Act>
void block_linear_backward_weight(stream& s, const block_linear_backward_weight_args<Act>& a) {
  for (std::int64_t k = 0; k < a.blocks; ++k) linear_backward_weight(s, block_of(a, k));
}

#define ISTHMUS_FOR(Act)                                                                            \
  template void gate(stream&, const gate_args<Act>&);                                               \
  template void gate_backward(stream&, const gate_backward_args<Act>&);                             \
  template void shuffle(stream&, const shuffle_args<Act>&);                                         \
  template void add(stream&, const add_args<Act>&);                                                 \
  template void block_linear(stream&, const block_linear_args<Act>&);                               \
  template void block_linear_backward_input(stream&, const block_linear_backward_input_args<Act>&); \
  template void block_linear_backward_weight(stream&, const block_linear_backward_weight_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
