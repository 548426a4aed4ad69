#pragma once

#include "kernels/bf16.hpp"
#include "kernels/cuda/queue.hpp"

#include <cuda_bf16.h>

#include <cstdint>

// What all kernels of this folder share.
namespace isthmus::kernels::cuda {

constexpr int warp_size = 32;

__device__ inline float wide(float v) { return v; }
__device__ inline float wide(bf16 v) { return __uint_as_float(static_cast<std::uint32_t>(v.bits) << 16); }
template <class Act>
__device__ Act narrow(float v);
template <>
__device__ inline float narrow<float>(float v) {
  return v;
}
template <>
__device__ inline bf16 narrow<bf16>(float v) {
  bf16 out;
  out.bits = __bfloat16_as_ushort(__float2bfloat16_rn(v));
  return out;
}

__device__ inline float sigmoid(float x) { return __fdividef(1.0F, 1 + __expf(-x)); }
__device__ inline float softplus(float x) { return x > 20 ? x : log1pf(expf(x)); }
/// silu'(x) = s (1 + x (1 - s)), s = sigmoid(x).
__device__ inline float silu_slope(float x, float s) { return s * (1 + x * (1 - s)); }

/// The sum over a warp, in every lane; a tree of fixed order.
__device__ inline float warp_sum(float v) {
  for (int step = warp_size / 2; step > 0; step /= 2) v += __shfl_xor_sync(~0U, v, step);
  return v;
}
__device__ inline float warp_max(float v) {
  for (int step = warp_size / 2; step > 0; step /= 2) v = fmaxf(v, __shfl_xor_sync(~0U, v, step));
  return v;
}

/// Up to four neighbours at once: 16 bytes of fp32, 8 of bf16.
template <class Act>
struct alignas(4 * sizeof(Act)) four {
  Act at[4];
};
template <class Act>
struct alignas(2 * sizeof(Act)) two {
  Act at[2];
};
template <class Act>
__device__ inline float4 load4(const Act* from) {
  const auto v = *reinterpret_cast<const four<Act>*>(from);
  return {wide(v.at[0]), wide(v.at[1]), wide(v.at[2]), wide(v.at[3])};
}
template <class Act>
__device__ inline void store4(Act* to, float4 v) {
  *reinterpret_cast<four<Act>*>(to) = {{narrow<Act>(v.x), narrow<Act>(v.y), narrow<Act>(v.z), narrow<Act>(v.w)}};
}
/// Whether rows of these extents can be read four at a time.
template <class... Pointers>
bool fours(std::int64_t extents_or, Pointers... pointers) {
  return extents_or % 4 == 0 && ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
}

__host__ __device__ inline std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
__host__ __device__ inline std::int64_t most(std::int64_t a, std::int64_t b) { return a > b ? a : b; }
inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Starts a kernel, unless there is nothing to do, and throws device_error when it could not be started.
template <class... Parameters, class... Arguments>
void launch(queue& q, const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > 48 * 1024)
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          name);
  kernel<<<grid, block, shared_bytes, q.handle()>>>(arguments...);
  check(cudaGetLastError(), name);
}

}  // namespace isthmus::kernels::cuda
