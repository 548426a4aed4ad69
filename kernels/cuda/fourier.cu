#include "kernels/cuda/fourier.cuh"

#include <cmath>
#include <numbers>
#include <vector>

namespace isthmus::kernels::cuda {

namespace {

/// Count levels of one set of 2^Count points that lie under `node`.
template <bool Inverse, int Count>
__device__ void levels_of(float2 (&x)[1 << Count], const float2* factors, std::int64_t node) {
#pragma unroll
  for (int step = 0; step < Count; ++step) {
    const int level = Inverse ? Count - 1 - step : step, half = 1 << (Count - 1 - level);
#pragma unroll
    for (int i = 0; i < 1 << Count; ++i) {
      if ((i & half) != 0) continue;
      const float2 factor = factors[(node << level) + (i >> (Count - level))], low = x[i], high = x[i + half];
      if constexpr (Inverse) {
        x[i] = {low.x + high.x, low.y + high.y};
        x[i + half] = times({low.x - high.x, low.y - high.y}, conjugate(factor));
      } else {
        const float2 turned = times(high, factor);
        x[i] = {low.x + turned.x, low.y + turned.y};
        x[i + half] = {low.x - turned.x, low.y - turned.y};
      }
    }
  }
}

/// Set u of those that Count levels below level `level` of a tree over 2^all points fall into; root: the tree's node.
template <bool Inverse, int Count>
__device__ void sweep_of(float2* data, const float2* factors, std::int64_t root, int all, int level, std::int64_t u) {
  const int apart = all - level - Count;  // points of a set are 2^apart from each other
  const std::int64_t node = u >> apart, first = (node << (all - level)) + (u & ((std::int64_t{1} << apart) - 1));
  float2 x[1 << Count];
#pragma unroll
  for (int i = 0; i < 1 << Count; ++i) x[i] = data[first + (static_cast<std::int64_t>(i) << apart)];
  levels_of<Inverse, Count>(x, factors, (root << level) + node);
#pragma unroll
  for (int i = 0; i < 1 << Count; ++i) data[first + (static_cast<std::int64_t>(i) << apart)] = x[i];
}
template <bool Inverse>
__device__ void sweep(int count, float2* data, const float2* factors, std::int64_t root, int all, int level, std::int64_t u) {
  if (count == 1)
    sweep_of<Inverse, 1>(data, factors, root, all, level, u);
  else if (count == 2)
    sweep_of<Inverse, 2>(data, factors, root, all, level, u);
  else
    sweep_of<Inverse, 3>(data, factors, root, all, level, u);
}

/// Some levels of whole rows in the device's memory.
template <bool Inverse>
__global__ void levels_in_memory(float2* data, const float2* factors, int all, int level, int count) {
  const std::int64_t u = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (u >= std::int64_t{1} << (all - count)) return;
  sweep<Inverse>(count, data + (static_cast<std::int64_t>(blockIdx.y) << all), factors, 1, all, level, u);
}

/// The last `levels` levels: a block has 2^levels neighbouring points, under one node, in shared memory.
template <bool Inverse>
__global__ void levels_in_shared(float2* data, const float2* factors, std::int64_t nodes, int levels) {
  extern __shared__ float2 points[];
  const std::int64_t count = std::int64_t{1} << levels, root = nodes + blockIdx.x % nodes;
  float2* mine = data + blockIdx.x * count;
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) points[i] = mine[i];
  const int sweeps = (levels + 2) / 3;
  for (int i = 0; i < sweeps; ++i) {
    const int level = 3 * (Inverse ? sweeps - 1 - i : i), together = levels - level < 3 ? levels - level : 3;
    __syncthreads();
    for (std::int64_t u = threadIdx.x; u < count >> together; u += blockDim.x)
      sweep<Inverse>(together, points, factors, root, levels, level, u);
  }
  __syncthreads();
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) mine[i] = points[i];
}

}  // namespace

fourier_plan::fourier_plan(std::int64_t of_length) : long_conv_plan(of_length) {
  while (points() < of_length) ++levels;
}

const float2* fourier_plan::factors(queue& q) {
  if (factors_) return factors_;
  const auto count = static_cast<std::size_t>(points());
  std::vector<double> angles(count, 0.25);  // in turns
  std::vector<float2> values(count);
  for (std::size_t n = 1; n < count; ++n) {
    if (n > 1) angles[n] = (angles[n / 2] + static_cast<double>(n % 2)) / 2;
    const double turn = std::numbers::pi * angles[n];
    values[n] = {static_cast<float>(std::cos(turn)), static_cast<float>(std::sin(turn))};
  }
  factors_ = static_cast<float2*>(device_memory.allocate(count * sizeof(float2)));
  device_memory.upload(q, factors_, values.data(), count * sizeof(float2));
  return factors_;
}

void transform(queue& q, fourier_plan& p, float2* data, std::int64_t rows, bool inverse) {
  constexpr std::int64_t rows_max = 65535;
  const float2* factors = p.factors(q);
  const int most = q.shared_bytes() >= 128 * 1024 ? 14 : 12, inside = p.levels < most ? p.levels : most, above = p.levels - inside;
  const auto in_memory = [&](int level) {
    const int count = above - level < 3 ? above - level : 3;
    for (std::int64_t r = 0; r < rows; r += rows_max)
      launch(q, "levels of a long transform", inverse ? levels_in_memory<true> : levels_in_memory<false>,
             dim3(static_cast<unsigned>(ceil_div(p.points() >> count, 256)), static_cast<unsigned>(least(rows_max, rows - r))), 256, 0,
             data + r * p.points(), factors, p.levels, level, count);
  };
  if (!inverse)
    for (int level = 0; level < above; level += 3) in_memory(level);
  const std::int64_t nodes = std::int64_t{1} << above;
  launch(q, "transform", inverse ? levels_in_shared<true> : levels_in_shared<false>, static_cast<unsigned>(rows * nodes),
         inside < 9 ? 64 : 512, sizeof(float2) << inside, data, factors, nodes, inside);
  if (inverse)
    for (int level = (above + 2) / 3 * 3 - 3; level >= 0; level -= 3) in_memory(level);
}

}  // namespace isthmus::kernels::cuda
