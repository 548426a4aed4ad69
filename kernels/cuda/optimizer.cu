#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.hpp"

#include <vector>

namespace isthmus::kernels::cuda {

namespace {

constexpr int threads = 256, elements_a_block = 4096;

/// Elements that share a decay, and the first of the blocks that update them.
struct extent_blocks {
  std::int64_t begin, end, first_block;
  float decay, none;
};

struct rule {
  float* __restrict__ weights;
  float* __restrict__ first;
  float* __restrict__ second;
  float* __restrict__ gradients;
  float rate, beta1, beta2, eps, gradient_scale, correction1, correction2;
  bool clear;

  // Contraction is off in this file (CMakeLists.txt), so that the GPU rounds where the host does.
  __device__ void operator()(std::int64_t i, float decay) const {
    const float g = __ldcs(gradients + i) * gradient_scale, w = weights[i];
    const float m = beta1 * first[i] + (1 - beta1) * g, v = beta2 * second[i] + (1 - beta2) * (g * g);
    first[i] = m;
    second[i] = v;
    weights[i] = w - rate * (m / correction1 / (sqrtf(v / correction2) + eps) + decay * w);
    if (clear) gradients[i] = 0;
  }
};

__global__ void update_extents(rule r, const extent_blocks* extents, std::int64_t n_extents) {
  std::int64_t low = 0, high = n_extents;  // the last extent whose first block is not behind this one
  while (high - low > 1) (extents[(low + high) / 2].first_block <= blockIdx.x ? low : high) = (low + high) / 2;
  const extent_blocks e = extents[low];
  const std::int64_t begin = e.begin + (blockIdx.x - e.first_block) * elements_a_block, end = least(begin + elements_a_block, e.end);
#pragma unroll 4
  for (std::int64_t i = begin + threadIdx.x; i < end; i += threads) r(i, e.decay);
}

/// Each block sums 4096 squares in double: threads take every 256th, then a tree.
__global__ void block_squares(const float* values, std::int64_t count, double* sums) {
  __shared__ double part[threads];
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * elements_a_block, end = min(begin + elements_a_block, count);
  double sum = 0;
  for (std::int64_t i = begin + threadIdx.x; i < end; i += threads) sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  part[threadIdx.x] = sum;
  for (int step = threads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (threadIdx.x < step) part[threadIdx.x] += part[threadIdx.x + step];
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = part[0];
}

/// sums[0] = all sums, by one block: threads take consecutive runs in ascending order, then a tree.
__global__ void add_blocks(double* sums, std::int64_t count) {
  __shared__ double part[threads];
  const std::int64_t run = (count + threads - 1) / threads, begin = threadIdx.x * run, end = min(begin + run, count);
  double sum = 0;
  for (std::int64_t i = begin; i < end; ++i) sum += sums[i];
  part[threadIdx.x] = sum;
  for (int step = threads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (threadIdx.x < step) part[threadIdx.x] += part[threadIdx.x + step];
  }
  if (threadIdx.x == 0) sums[0] = part[0];
}

}  // namespace

void adamw(stream& s, const adamw_args& a) {
  queue& q = queue_of(s);
  std::vector<extent_blocks> extents;
  std::int64_t blocks = 0;
  for (std::int64_t e = 0; e < a.n_extents; ++e) {
    const decay_extent& x = a.extents[e];
    extents.push_back({x.offset, x.offset + x.count, blocks, x.decay, 0});
    blocks += ceil_div(x.count, elements_a_block);
  }
  if (blocks == 0) return;
  const std::byte* there = q.keep(extents.data(), extents.size() * sizeof(extent_blocks));
  const rule r{a.weights, a.first, a.second,         a.gradients,   a.rate,        a.beta1,
               a.beta2,   a.eps,   a.gradient_scale, a.correction1, a.correction2, a.clear_gradients};
  launch(q, "adamw", update_extents, static_cast<unsigned>(blocks), threads, 0, r, reinterpret_cast<const extent_blocks*>(there),
         a.n_extents);
}

void sum_of_squares(stream& s, const sum_of_squares_args& a) {
  *a.sum = 0;
  if (a.count == 0) return;
  queue& q = queue_of(s);
  const std::int64_t blocks = ceil_div(a.count, elements_a_block);
  auto* sums = reinterpret_cast<double*>(q.scratch(static_cast<std::size_t>(blocks) * sizeof(double)));
  launch(q, "squares", block_squares, static_cast<unsigned>(blocks), threads, 0, a.values, a.count, sums);
  launch(q, "the sum of squares", add_blocks, 1, threads, 0, sums, blocks);
  device_memory.download(s, a.sum, sums, sizeof(double));
}

}  // namespace isthmus::kernels::cuda
