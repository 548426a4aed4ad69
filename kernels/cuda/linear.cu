#include "kernels/cuda/device.cuh"
#include "kernels/cuda/matrix.cuh"
#include "kernels/cuda/ops.hpp"
#include "kernels/cuda/quantised.cuh"

namespace isthmus::kernels::cuda {

namespace {

template <bool Fours>
__global__ void round_elements(const float* from, bf16* to, std::int64_t count) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
  if (Fours && i + 4 <= count)
    store4(to + i, load4(from + i));
  else
    for (std::int64_t k = i; k < min(i + 4, count); ++k) to[k] = narrow<bf16>(from[k]);
}

template <class Act>
constexpr blas_type type_of = std::is_same_v<Act, bf16> ? blas_type::b16 : blas_type::f32;

}  // namespace

void round_to_bf16(queue& q, const float* from, bf16* to, std::int64_t count) {
  launch(q, "rounding weights to bf16", fours(0, from, to) ? round_elements<true> : round_elements<false>,
         static_cast<unsigned>(ceil_div(count, 4 * 256)), 256, 0, from, to, count);
}

template <class Act>
std::unique_ptr<matrix<Act>> make_matrix(const real<Act>* master, std::int64_t out, std::int64_t in) {
  return std::make_unique<device_matrix<Act>>(master, out, in);
}

// cuBLAS is column-major: a row-major [r, c] of stride s is its [c, r].
template <class Act>
void linear(stream& s, const linear_args<Act>& a) {
  queue& q = queue_of(s);
  if (a.w->format != weight_format::master) return quantised_linear(q, a);
  multiply(q.blas(), {.transpose_a = true,
                      .transpose_b = false,
                      .m = a.w->out,
                      .n = a.rows,
                      .k = a.w->in,
                      .a = weights_of(q, a.w),
                      .a_stride = a.w->in,
                      .b = a.x,
                      .b_stride = a.x_stride,
                      .inputs = type_of<Act>,
                      .c = a.y,
                      .c_stride = a.y_stride,
                      .result = type_of<Act>,
                      .beta = 0});
}

template <class Act>
void linear_backward_input(stream& s, const linear_backward_input_args<Act>& a) {
  ensure_trains(*a.w);
  queue& q = queue_of(s);
  multiply(q.blas(), {.transpose_a = false,
                      .transpose_b = false,
                      .m = a.w->in,
                      .n = a.rows,
                      .k = a.w->out,
                      .a = weights_of(q, a.w),
                      .a_stride = a.w->in,
                      .b = a.dy,
                      .b_stride = a.dy_stride,
                      .inputs = type_of<Act>,
                      .c = a.dx,
                      .c_stride = a.dx_stride,
                      .result = type_of<Act>,
                      .beta = 0});
}

template <class Act>
void linear_backward_weight(stream& s, const linear_backward_weight_args<Act>& a) {
  ensure_trains(*a.w);
  multiply(queue_of(s).blas(), {.transpose_a = false,
                                .transpose_b = true,
                                .m = a.w->in,
                                .n = a.w->out,
                                .k = a.rows,
                                .a = a.x,
                                .a_stride = a.x_stride,
                                .b = a.dy,
                                .b_stride = a.dy_stride,
                                .inputs = type_of<Act>,
                                .c = a.dw,
                                .c_stride = a.w->in,
                                .result = blas_type::f32,
                                .beta = 1});
}

#define ISTHMUS_FOR(Act)                                                                                \
  template std::unique_ptr<matrix<Act>> make_matrix<Act>(const real<Act>*, std::int64_t, std::int64_t); \
  template void linear(stream&, const linear_args<Act>&);                                               \
  template void linear_backward_input(stream&, const linear_backward_input_args<Act>&);                 \
  template void linear_backward_weight(stream&, const linear_backward_weight_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
