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
};

/// In the queue's scratch.
template <class Act>
row_facts facts_of(queue& q, const attention_backward_args<Act>& a);

}  // namespace isthmus::kernels::cuda
