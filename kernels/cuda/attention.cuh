#pragma once

#include "kernels/attention.hpp"
#include "kernels/cuda/device.cuh"

namespace isthmus::kernels::cuda {

constexpr float log2_e = 1.4426950408889634F;

/// What the backward pass needs of query rows: log2 of the sum of a row's weights, and d_o . o. [batch, heads, length], length a multiple
/// of 64: the rows that fill it have an infinite lse, so that their weights are zero.
struct row_facts {
  float *lse, *mean;
  std::int64_t length;

  __host__ __device__ row_facts of_head(std::int64_t i) const { return {lse + i * length, mean + i * length, length}; }
  __host__ __device__ row_facts from(std::int64_t row) const { return {lse + row, mean + row, length - row}; }
};

/// In the queue's scratch.
template <class Act>
row_facts facts_of(queue& q, const attention_backward_args<Act>& a);

/// In fp32, for heads up to 256 wide.
void attention_of_wide_heads(queue& q, const attention_args<float>& a);
void attention_backward_of_wide_heads(queue& q, const attention_backward_args<float>& a);

}  // namespace isthmus::kernels::cuda
