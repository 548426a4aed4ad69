#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/long_conv.hpp"

// Transforms of complex rows of N = 2^k points, modulo z^N - i: kernels/cpu/long_conv_plan.hpp says why. A level of radix two has a factor a
// block; blocks are nodes of a binary tree, node n has children 2n and 2n + 1, the whole row is node 1.
namespace isthmus::kernels::cuda {

/// Points of a length, and the factors of all nodes [points] in the device's memory, made by the first kernel that wants them.
class fourier_plan final : public long_conv_plan {
public:
  explicit fourier_plan(std::int64_t of_length);
  ~fourier_plan() override { device_memory.release(factors_); }
  const float2* factors(queue& q);

  int levels = 3;  // N = 2^levels
  std::int64_t points() const { return std::int64_t{1} << levels; }

private:
  float2* factors_ = nullptr;
};

/// Each of `rows` rows of N points, in place. The inverse does not divide by N.
void transform(queue& q, fourier_plan& p, float2* data, std::int64_t rows, bool inverse);

__device__ inline float2 times(float2 a, float2 b) { return {a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x}; }
__device__ inline float2 conjugate(float2 a) { return {a.x, -a.y}; }

}  // namespace isthmus::kernels::cuda
