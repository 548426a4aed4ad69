#include "kernels/cuda/quantised.cuh"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.hpp"
#include "kernels/quantise.hpp"

namespace isthmus::kernels::cuda {

namespace {

/// A quantised copy in device memory. steps: [out, in], one byte each (int4 too), or in bf16; scales: [out, groups].
template <class Act>
class quantised_matrix final : public matrix<Act> {
public:
  using matrix<Act>::matrix;
  ~quantised_matrix() override {
    device_memory.release(steps_);
    device_memory.release(scales_);
  }
  void weights_changed() override { stale_ = true; }
  std::int64_t groups() const { return ceil_div(this->in, quantised_group); }
  void refresh(queue& q);
  const void* steps() const { return steps_; }
  const bf16* scales() const { return scales_; }

private:
  void* steps_ = nullptr;
  bf16* scales_ = nullptr;
  bool stale_ = true;
};

/// quantise() of kernels/quantise.hpp, a thread a group; the same operations in the same order, so the same bits.
template <bool Eight>
__global__ void quantise_groups(const float* master, std::int64_t out, std::int64_t in, std::int64_t groups, std::int8_t* steps,
                                bf16* scales) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= out * groups) return;
  const std::int64_t first = at / groups * in + at % groups * quantised_group,
                     n = least(quantised_group, in - at % groups * quantised_group);
  float top = 0;
  for (std::int64_t k = 0; k < n; ++k)
    if (fabsf(master[first + k]) > fabsf(top)) top = master[first + k];
  bf16 rounded;
  const float exact = Eight ? __fdiv_rn(fabsf(top), 127.0F) : __fdiv_rn(top, -8.0F);
  rounded.bits = static_cast<std::uint16_t>((__float_as_uint(exact) + 0xffffU) >> 16);
  const float scale = wide(rounded), low = Eight ? -127.0F : -8.0F, high = Eight ? 127.0F : 7.0F;
  for (std::int64_t k = 0; k < n; ++k) {
    const float nearest = top != 0 ? rintf(__fdiv_rn(master[first + k], scale)) : 0;
    const float at_least = nearest > low ? nearest : low;
    steps[first + k] = static_cast<std::int8_t>(at_least < high ? at_least : high);
  }
  scales[at] = rounded;
}

__global__ void round_weights(const float* master, bf16* rounded, std::int64_t count) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) rounded[i] = narrow<bf16>(master[i]);
}

template <class Act>
void quantised_matrix<Act>::refresh(queue& q) {
  if (!stale_) return;
  const std::int64_t count = this->out * this->in, blocks_of_groups = ceil_div(this->out * groups(), 128);
  const bool rounds = this->format == weight_format::bf16;
  if (!steps_) steps_ = device_memory.allocate(static_cast<std::size_t>(rounds ? 2 * count : count));
  if (!scales_ && !rounds)
    scales_ = static_cast<bf16*>(device_memory.allocate(static_cast<std::size_t>(this->out * groups()) * sizeof(bf16)));
  if (rounds)
    launch(q, "rounding weights", round_weights, static_cast<unsigned>(ceil_div(count, 256)), 256, 0, this->master,
           static_cast<bf16*>(steps_), count);
  else
    launch(q, "quantising weights", this->format == weight_format::int8 ? quantise_groups<true> : quantise_groups<false>,
           static_cast<unsigned>(blocks_of_groups), 128, 0, this->master, this->out, this->in, groups(), static_cast<std::int8_t*>(steps_),
           scales_);
  stale_ = false;
}

/// A warp an output and row; lane l reads inputs l, l + 32, ...: of each group one.
template <bool Rounded, class Act>
__global__ void multiply_quantised(linear_args<Act> a, const void* steps, const bf16* scales, std::int64_t out, std::int64_t in,
                                   std::int64_t groups) {
  const std::int64_t o = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (o >= out) return;
  for (std::int64_t r = blockIdx.y; r < a.rows; r += gridDim.y) {
    float sum = 0;
    for (std::int64_t i = threadIdx.x; i < in; i += warp_size) {
      const float w = Rounded ? wide(static_cast<const bf16*>(steps)[o * in + i])
                              : static_cast<float>(static_cast<const std::int8_t*>(steps)[o * in + i]) * wide(scales[o * groups + i / 32]);
      sum += w * wide(a.x[r * a.x_stride + i]);
    }
    sum = warp_sum(sum);
    if (threadIdx.x == 0) a.y[r * a.y_stride + o] = narrow<Act>(sum);
  }
}

}  // namespace

template <class Act>
std::unique_ptr<matrix<Act>> make_quantised_matrix(const real<Act>* master, std::int64_t out, std::int64_t in, weight_format format) {
  if (format == weight_format::master) return make_matrix<Act>(master, out, in);
  return std::make_unique<quantised_matrix<Act>>(master, out, in, format);
}

template <class Act>
void quantised_linear(queue& q, const linear_args<Act>& a) {
  auto& w = static_cast<quantised_matrix<Act>&>(*a.w);
  w.refresh(q);
  const dim3 grid(static_cast<unsigned>(ceil_div(w.out, 4)), static_cast<unsigned>(least(a.rows, 65535)));
  launch(q, "quantised linear", w.format == weight_format::bf16 ? multiply_quantised<true, Act> : multiply_quantised<false, Act>, grid,
         dim3(warp_size, 4), 0, a, w.steps(), w.scales(), w.out, w.in, w.groups());
}

#define ISTHMUS_FOR(Act)                                                                                                         \
  template std::unique_ptr<matrix<Act>> make_quantised_matrix<Act>(const real<Act>*, std::int64_t, std::int64_t, weight_format); \
  template void quantised_linear(queue&, const linear_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
