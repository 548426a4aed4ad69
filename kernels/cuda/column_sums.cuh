#pragma once

#include "kernels/cuda/device.cuh"

#include <algorithm>

namespace isthmus::kernels::cuda {

constexpr int column_block = 32, row_block = 8;

/// Four sums side by side, or one.
__device__ inline void add(float& sum, float v) { sum += v; }
__device__ inline void add(float4& sum, float4 v) { sum = {sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w}; }

/// partial[strip, c] = the sum over the strip's rows of term(row, c), or, Sum being float4, of term.four(row, c) for four columns a thread.
/// Block: column_block x row_block.
template <class Sum, class Term>
__global__ void strip_sums(Term term, std::int64_t rows, std::int64_t cols, std::int64_t rows_a_strip, float* partial) {
  constexpr int width = sizeof(Sum) / sizeof(float);
  __shared__ Sum part[row_block][column_block];
  const std::int64_t c = (static_cast<std::int64_t>(blockIdx.x) * column_block + threadIdx.x) * width;
  const std::int64_t begin = blockIdx.y * rows_a_strip, end = least(begin + rows_a_strip, rows);
  Sum sum{};
  if (c < cols)
#pragma unroll 4
    for (std::int64_t r = begin + threadIdx.y; r < end; r += row_block) {
      if constexpr (width == 4)
        add(sum, term.four(r, c));
      else
        add(sum, term(r, c));
    }
  part[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= cols) return;
  for (int i = 1; i < row_block; ++i) add(sum, part[i][threadIdx.x]);
  *reinterpret_cast<Sum*>(partial + blockIdx.y * cols + c) = sum;
}

/// sums[c] += sum over strips of partial[strip * stride + c]: eight threads a column, then those in ascending order.
static __global__ void add_strips(const float* partial, std::int64_t strips, std::int64_t stride, std::int64_t cols, float* sums) {
  __shared__ float part[row_block][column_block];
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * column_block + threadIdx.x;
  float sum = 0;
  if (c < cols)
#pragma unroll 4
    for (std::int64_t s = threadIdx.y; s < strips; s += row_block) sum += partial[s * stride + c];
  part[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= cols) return;
  for (int i = 1; i < row_block; ++i) sum += part[i][threadIdx.x];
  sums[c] += sum;
}

inline void add_partial_sums(queue& q, const float* partial, std::int64_t strips, std::int64_t stride, std::int64_t cols, float* sums) {
  launch(q, "sums over strips", add_strips, static_cast<unsigned>(ceil_div(cols, column_block)), dim3(column_block, row_block), 0, partial,
         strips, stride, cols, sums);
}

/// sums[c] += sum_r term(r, c), in an order that depends on the extents alone; four columns at a time if `vectors`. Uses the queue's
/// scratch.
template <class Term>
void add_column_sums(queue& q, Term term, std::int64_t rows, std::int64_t cols, bool vectors, float* sums) {
  if (rows == 0 || cols == 0) return;
  const std::int64_t blocks = ceil_div(cols, column_block * (vectors ? 4 : 1));
  const std::int64_t strips = std::clamp<std::int64_t>(std::min(rows / 32, 1024 / blocks), 1, 256), rows_a_strip = ceil_div(rows, strips);
  float* partial = q.scratch_floats(strips * cols);
  launch(q, "sums over rows", vectors ? strip_sums<float4, Term> : strip_sums<float, Term>,
         dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(strips)), dim3(column_block, row_block), 0, term, rows, cols,
         rows_a_strip, partial);
  add_partial_sums(q, partial, strips, cols, cols, sums);
}

}  // namespace isthmus::kernels::cuda
