#pragma once

#include "kernels/attention.hpp"
#include "kernels/cuda/device.cuh"

#include <string>

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

struct index_range {
  int first, end;
};

/// The keys of its row that query i of row b sees; neither end falls from one query to the next. Plain: what sight.plain() says.
template <bool Plain>
__device__ index_range keys_in_sight(const attention_sight& sight, std::int64_t b, std::int64_t length, std::int64_t i) {
  const auto query = static_cast<int>(i);
  if (Plain) return {0, query + 1};
  if (!sight.causal) return {0, static_cast<int>(length)};
  const int document = sight.first_key ? sight.first_key[b * length + least(i, length - 1)] : 0;
  return {sight.window > 0 ? max(document, static_cast<int>(i + 1 - sight.window)) : document, query + 1};
}

/// The queries of row b that see one of keys [begin, end).
template <bool Plain>
__device__ index_range queries_in_sight(const attention_sight& sight, std::int64_t b, std::int64_t length, std::int64_t begin,
                                        std::int64_t end) {
  int last = static_cast<int>(begin), beyond = static_cast<int>(length);  // a query that sees one; one that sees none
  if (Plain) return {last, beyond};
  if (!sight.causal) return {0, beyond};
  while (last + 1 < beyond) {
    const int middle = (last + beyond) / 2;
    (keys_in_sight<false>(sight, b, length, middle).first < end ? last : beyond) = middle;
  }
  return {static_cast<int>(begin), beyond};
}

/// Calls f.operator()<Plain>().
template <class F>
void for_sight(const attention_sight& sight, F f) {
  sight.plain() ? f.template operator()<true>() : f.template operator()<false>();
}

/// f.operator()<D>() for the smallest D there is that holds a head.
template <class F>
void for_any_head_dim(std::int64_t head_dim, F f) {
  if (head_dim <= 32) return f.template operator()<32>();
  if (head_dim <= 64) return f.template operator()<64>();
  if (head_dim <= 128) return f.template operator()<128>();
  if (head_dim <= 256) return f.template operator()<256>();
  throw device_error("attention on the GPU: head_dim is " + std::to_string(head_dim) + ", at most 256 are there");
}

/// In the queue's scratch.
template <class Act>
row_facts facts_of(queue& q, const attention_backward_args<Act>& a);

/// In fp32, for heads up to 256 wide.
void attention_of_wide_heads(queue& q, const attention_args<float>& a);
void attention_backward_of_wide_heads(queue& q, const attention_backward_args<float>& a);

}  // namespace isthmus::kernels::cuda
