// Attention of sequences against their caches, one after the other.
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::cuda {

namespace {

constexpr int warps = 8, threads = warps * warp_size;
constexpr float low = -3.0e38F;  // below every score, and no infinity: the difference of two of them is a number

/// What a part of a cache gives one query and head: the largest score, the sum of exp(score - largest), and the weighted sum of values.
struct cache_parts {
  float* numbers;  // [tokens, heads, splits, head_dim + 2], or null: one split, straight to the output
  std::int64_t splits, keys_a_split;
};

/// One block a token, head and split: each warp goes over every eighth key, four at a time, with lanes as columns; then the warps' sums
/// are merged.
template <class Act, class Cache, int Columns>
__global__ void attention_of_cache(attention_cached_args<Act, Cache> a, cached_sequence<Cache> of, cache_parts to) {
  constexpr int at_once = 4;
  __shared__ float peaks[warps], totals[warps], parts[warps][Columns * warp_size];
  const std::int64_t t = blockIdx.x, row = of.first + t, h = blockIdx.y, kv = h * a.kv_heads / a.heads, stride = a.kv_heads * a.head_dim;
  const std::int64_t first = keys_in_sight<false>({.window = a.window}, 0, 0, of.past + t).first;
  const std::int64_t begin = first + blockIdx.z * to.keys_a_split, end = least(begin + to.keys_a_split, of.past + t + 1);
  const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
  float q[Columns], sum[Columns] = {}, peak = low, total = 0;
#pragma unroll
  for (int i = 0; i < Columns; ++i) {
    const int c = i * warp_size + lane;
    q[i] = c < a.head_dim ? a.scale * wide(a.q[row * a.q_stride + h * a.head_dim + c]) : 0.0F;
  }
  for (std::int64_t j = begin + warp; j < end; j += warps * at_once) {
    float score[at_once] = {}, v[at_once][Columns], peak_now = peak;
#pragma unroll
    for (int k = 0; k < at_once; ++k) {
      const std::int64_t at = least(j + k * warps, end - 1) * stride + kv * a.head_dim;
#pragma unroll
      for (int i = 0; i < Columns; ++i) {
        const int c = i * warp_size + lane;
        if (c < a.head_dim) score[k] += q[i] * wide(of.keys[at + c]);
        v[k][i] = c < a.head_dim ? wide(of.values[at + c]) : 0.0F;
      }
    }
#pragma unroll
    for (int k = 0; k < at_once; ++k) {
      score[k] = warp_sum(score[k]);
      if (j + k * warps >= end) score[k] = low;
      peak_now = fmaxf(peak_now, score[k]);
    }
    const float keep = __expf(peak - peak_now);
    peak = peak_now;
    total *= keep;
#pragma unroll
    for (float& s : sum) s *= keep;
#pragma unroll
    for (int k = 0; k < at_once; ++k) {
      const float weight = j + k * warps < end ? __expf(score[k] - peak) : 0.0F;
      total += weight;
#pragma unroll
      for (int i = 0; i < Columns; ++i) sum[i] += weight * v[k][i];
    }
  }
#pragma unroll
  for (int i = 0; i < Columns; ++i) parts[warp][i * warp_size + lane] = sum[i];
  if (lane == 0) {
    peaks[warp] = peak;
    totals[warp] = total;
  }
  __syncthreads();
  float top = low, all = 0;
  for (int w = 0; w < warps; ++w) top = fmaxf(top, peaks[w]);
  for (int w = 0; w < warps; ++w) all += totals[w] * __expf(peaks[w] - top);
  float* part = to.numbers ? to.numbers + ((t * a.heads + h) * to.splits + blockIdx.z) * (a.head_dim + 2) : nullptr;
  for (std::int64_t c = threadIdx.x; c < a.head_dim; c += threads) {
    float o = 0;
    for (int w = 0; w < warps; ++w) o += parts[w][c] * __expf(peaks[w] - top);
    if (part)
      part[2 + c] = o;
    else
      a.o[(row * a.heads + h) * a.head_dim + c] = narrow<Act>(o / all);
  }
  if (part && threadIdx.x == 0) {
    part[0] = top;
    part[1] = all;
  }
}

/// One block a token and head.
template <class Act, class Cache>
__global__ void merge_splits(attention_cached_args<Act, Cache> a, cached_sequence<Cache> of, cache_parts from) {
  const std::int64_t i = blockIdx.x * a.heads + blockIdx.y, stride = a.head_dim + 2;
  const float* part = from.numbers + i * from.splits * stride;
  float top = low, all = 0;
  for (std::int64_t s = 0; s < from.splits; ++s) top = fmaxf(top, part[s * stride]);
  for (std::int64_t s = 0; s < from.splits; ++s) all += part[s * stride + 1] * __expf(part[s * stride] - top);
  for (std::int64_t c = threadIdx.x; c < a.head_dim; c += blockDim.x) {
    float o = 0;
    for (std::int64_t s = 0; s < from.splits; ++s) o += part[s * stride + 2 + c] * __expf(part[s * stride] - top);
    a.o[(of.first * a.heads + i) * a.head_dim + c] = narrow<Act>(o / all);
  }
}

template <class Act, class Cache>
void attend_to_cache(queue& q, const attention_cached_args<Act, Cache>& a, const cached_sequence<Cache>& of) {
  const std::int64_t all = of.past + of.tokens, keys = a.window > 0 ? std::min(a.window, all) : all;  // of a query
  const std::int64_t blocks_wanted = 512;
  const std::int64_t splits = std::clamp<std::int64_t>(blocks_wanted / (of.tokens * a.heads), 1, ceil_div(keys, warps * 8));
  const cache_parts parts{splits > 1 ? q.scratch_floats(of.tokens * a.heads * splits * (a.head_dim + 2)) : nullptr, splits,
                          ceil_div(keys, splits)};
  const auto tokens = static_cast<unsigned>(of.tokens), heads = static_cast<unsigned>(a.heads);
  for_any_head_dim(a.head_dim, [&]<int D>() {
    launch(q, "attention_cached", attention_of_cache<Act, Cache, D / warp_size>, dim3(tokens, heads, static_cast<unsigned>(splits)),
           threads, 0, a, of, parts);
  });
  if (splits > 1) launch(q, "attention_cached's merge", merge_splits<Act, Cache>, dim3(tokens, heads), 64, 0, a, of, parts);
}

}  // namespace

template <class Act, class Cache>
void attention_cached(stream& s, const attention_cached_args<Act, Cache>& a) {
  for (std::int64_t i = 0; i < a.count; ++i)
    if (a.sequences[i].tokens > 0) attend_to_cache(queue_of(s), a, a.sequences[i]);
}
template void attention_cached(stream&, const attention_cached_args<float>&);
template void attention_cached(stream&, const attention_cached_args<float, bf16>&);
template void attention_cached(stream&, const attention_cached_args<bf16>&);

}  // namespace isthmus::kernels::cuda
