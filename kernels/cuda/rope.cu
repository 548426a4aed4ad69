#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda {

namespace {

constexpr int threads = 256;

/// One thread a pair, or four neighbours; a block for each row; pairs of all heads lie behind each other.
template <class Act, bool Fours>
__global__ void rotate_pairs(rope_args<Act> a) {
  constexpr int step = Fours ? 4 : 1;
  const int half = static_cast<int>(a.rotary / 2), pairs = static_cast<int>(a.heads) * half;
  const std::int64_t r = blockIdx.x, t = r % a.length;
  const float sign = a.inverse ? -1.0F : 1.0F;
  for (int pair = static_cast<int>(threadIdx.x) * step; pair < pairs; pair += threads * step) {
    const int h = pair / half, i = pair - h * half;
    Act* x = a.x + r * a.x_stride + h * a.head_dim + i;
    const float *cosine = a.cosine + t * half + i, *sine = a.sine + t * half + i;
    if constexpr (Fours) {
      const float4 low = load4(x), high = load4(x + half), c = load4(cosine), s = load4(sine);
      store4(x, {low.x * c.x - high.x * sign * s.x, low.y * c.y - high.y * sign * s.y, low.z * c.z - high.z * sign * s.z,
                 low.w * c.w - high.w * sign * s.w});
      store4(x + half, {high.x * c.x + low.x * sign * s.x, high.y * c.y + low.y * sign * s.y, high.z * c.z + low.z * sign * s.z,
                        high.w * c.w + low.w * sign * s.w});
    } else {
      const float low = wide(x[0]), high = wide(x[half]), c = *cosine, s = sign * *sine;
      x[0] = narrow<Act>(low * c - high * s);
      x[half] = narrow<Act>(high * c + low * s);
    }
  }
}

}  // namespace

template <class Act>
void rope(stream& s, const rope_args<Act>& a) {
  const bool vectors = a.head_dim % 4 == 0 && a.rotary % 8 == 0 && fours(a.x_stride, a.x, a.cosine, a.sine);
  launch(queue_of(s), "rope", vectors ? rotate_pairs<Act, true> : rotate_pairs<Act, false>, static_cast<unsigned>(a.batch * a.length),
         threads, 0, a);
}

template void rope(stream&, const rope_args<float>&);
template void rope(stream&, const rope_args<bf16>&);

}  // namespace isthmus::kernels::cuda
