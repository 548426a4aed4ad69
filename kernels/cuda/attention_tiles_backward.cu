#include "kernels/cuda/attention_tiles.cuh"

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_hopper.hpp"
#include "kernels/cuda/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::cuda {

namespace {

using namespace tiled;

constexpr int warps = 4, threads = warps * warp_size;
template <int D>
constexpr int rows = warps* rows_a_warp<D>;
template <class Act, int D>
constexpr int own_numbers = rows<D>* rows_in_memory<Act, D>::stride;
template <class Act, int D>
constexpr std::size_t bytes = passing_tiles<Act, D, threads>::bytes + 2 * own_numbers<Act, D> * sizeof(Act) +
                              2 * tile<Act, D> * sizeof(float2);

/// The block's own rows behind the tiles that pass by.
template <class Act, int D>
__device__ rows_in_memory<Act, D> own_tile(const passing_tiles<Act, D, threads>& tiles, int i) {
  return {tiles.at(4).at + i * own_numbers<Act, D>};
}

template <class Act, int D, bool Plain>
__global__ void __launch_bounds__(threads) attention_dq(attention_backward_args<Act> a, row_facts all_facts, bool aligned) {
  constexpr int tile = tiled::tile<Act, D>, part = 32;
  extern __shared__ __align__(16) std::byte memory[];
  const passing_tiles<Act, D, threads> kv_tiles{memory, a.head_dim, aligned};
  const auto q_tile = own_tile(kv_tiles, 0), d_o_tile = own_tile(kv_tiles, 1);
  const std::int64_t begin = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * rows<D>, h = blockIdx.y, b = blockIdx.z;
  const std::int64_t first = b * a.length, valid = least(rows<D>, a.length - begin), kv = h * a.kv_heads / a.heads * a.head_dim;
  const Act *k = a.k + first * a.qkv_stride + kv, *v = a.v + first * a.qkv_stride + kv;
  const std::int64_t o_stride = a.heads * a.head_dim;
  const auto sight_of = [&](std::int64_t query) { return keys_in_sight<Plain>(a.sight, b, a.length, query); };
  const int tiles = (sight_of(begin + valid - 1).end + tile - 1) / tile;
  const int first_tile = sight_of(begin).first / tile;
  const auto start = [&](int i) {
    const std::int64_t at = i * tile * a.qkv_stride;
    kv_tiles.start(i % 2, k + at, a.qkv_stride, v + at, a.qkv_stride, a.length - i * tile);
  };
  start_copy<rows<D>, threads>(q_tile, a.q + (first + begin) * a.qkv_stride + h * a.head_dim, a.qkv_stride, valid, a.head_dim, aligned);
  start_copy<rows<D>, threads>(d_o_tile, a.d_o + (first + begin) * o_stride + h * a.head_dim, o_stride, valid, a.head_dim, aligned);
  start(first_tile);
  const auto mine = static_cast<int>(begin) + first_row_of_warp<D>();
  const int g = lane() / 4, t = lane() % 4;
  const row_facts facts = all_facts.of_head(b * a.heads + h);
  float lse[strips<D>][2], mean[strips<D>][2];
#pragma unroll
  for (int strip = 0; strip < strips<D>; ++strip)
    for (int half = 0; half < 2; ++half) {
      const std::int64_t at = least(mine + strip * 16 + 8 * half + g, facts.length - 1);
      lse[strip][half] = facts.lse[at];
      mean[strip][half] = facts.mean[at];
    }
  sums_of_rows<D, D> dq;
  clear<D, D>(dq);
  const float scale = a.scale * log2_e;
  wait_for_copies<0>();
  __syncthreads();
  const own_rows<Act, D> q{q_tile}, d_o{d_o_tile};
  const index_range of_first = sight_of(mine), of_last = sight_of(mine + rows_a_warp<D> - 1);
  for (int i = first_tile; i < tiles; ++i) {
    if (i + 1 < tiles) start(i + 1);
#pragma unroll
    for (int at = 0; at < tile; at += part) {
      const int key = i * tile + at;
      if (key >= of_last.end || (!Plain && key + part <= of_first.first)) continue;
      const bool masked = key + part > of_first.end || (!Plain && key < of_last.first);
      sums_of_rows<D, part> s, dp;
      scores<D, part>(s, q, kv_tiles.first(i % 2), at);
      scores<D, part>(dp, d_o, kv_tiles.second(i % 2), at);
#pragma unroll
      for (int strip = 0; strip < strips<D>; ++strip)
#pragma unroll
        for (int n = 0; n < part / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            float& x = s[strip].v[n][e];
            const float p = exp2_of(x * scale - lse[strip][e / 2]);
            const int column = key + n * 8 + t * 2 + e % 2;
            const index_range sees = sight_of(mine + strip * 16 + g + e / 2 * 8);
            const bool seen = !masked || (column < sees.end && (Plain || sees.first <= column));
            x = seen ? a.scale * p * (dp[strip].v[n][e] - mean[strip][e / 2]) : 0.0F;
          }
      add_weighted<D, part>(dq, s, kv_tiles.first(i % 2), at);
    }
    wait_for_copies<0>();
    __syncthreads();
  }
  write_rows<D>(dq, a.dq + (first + begin) * a.d_qkv_stride + h * a.head_dim, a.d_qkv_stride, valid, a.head_dim);
}

template <class Act, int D, bool Plain>
__global__ void __launch_bounds__(threads) attention_dk_dv(attention_backward_args<Act> a, row_facts all_facts, bool aligned) {
  constexpr int tile = tiled::tile<Act, D>, part = std::is_same_v<Act, float> ? 16 : 32;
  extern __shared__ __align__(16) std::byte memory[];
  const passing_tiles<Act, D, threads> q_tiles{memory, a.head_dim, aligned};
  const auto k_tile = own_tile(q_tiles, 0), v_tile = own_tile(q_tiles, 1);
  auto* facts_of_stage = reinterpret_cast<float2*>(own_tile(q_tiles, 2).at);  // [2, tile]: lse and mean
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * rows<D>, kv = blockIdx.y, b = blockIdx.z, group = a.heads / a.kv_heads;
  const std::int64_t first = b * a.length, valid = least(rows<D>, a.length - begin), o_stride = a.heads * a.head_dim;
  const index_range queries = queries_in_sight<Plain>(a.sight, b, a.length, begin, begin + valid);
  const int tiles = (queries.end - queries.first + tile - 1) / tile, steps = static_cast<int>(group) * tiles;
  const auto start = [&](int i) {
    const std::int64_t h = kv * group + i / tiles, r = queries.first + static_cast<std::int64_t>(i % tiles) * tile;
    q_tiles.start(i % 2, a.q + (first + r) * a.qkv_stride + h * a.head_dim, a.qkv_stride, a.d_o + (first + r) * o_stride + h * a.head_dim,
                  o_stride, a.length - r);
    const row_facts facts = all_facts.of_head(b * a.heads + h);
    if (threadIdx.x < tile) facts_of_stage[i % 2 * tile + threadIdx.x] = {facts.lse[r + threadIdx.x], facts.mean[r + threadIdx.x]};
  };
  const std::int64_t from = (first + begin) * a.qkv_stride + kv * a.head_dim;
  start_copy<rows<D>, threads>(k_tile, a.k + from, a.qkv_stride, valid, a.head_dim, aligned);
  start_copy<rows<D>, threads>(v_tile, a.v + from, a.qkv_stride, valid, a.head_dim, aligned);
  start(0);
  wait_for_copies<0>();
  __syncthreads();
  sums_of_rows<D, D> dk, dv;
  clear<D, D>(dk);
  clear<D, D>(dv);
  const float scale = a.scale * log2_e;
  const auto mine = static_cast<int>(begin) + first_row_of_warp<D>();
  const int g = lane() / 4, t = lane() % 4;
  for (int i = 0; i < steps; ++i) {
    if (i + 1 < steps) start(i + 1);
#pragma unroll
    for (int at = 0; at < tile; at += part) {
      const int query = queries.first + i % tiles * tile + at;
      const index_range of_first = keys_in_sight<Plain>(a.sight, b, a.length, query);
      const index_range of_last = keys_in_sight<Plain>(a.sight, b, a.length, query + part - 1);
      if (of_last.end <= mine || (!Plain && of_first.first >= mine + rows_a_warp<D>)) continue;
      const float2* of_queries = facts_of_stage + i % 2 * tile + at;
      const bool masked = of_first.end < mine + rows_a_warp<D> || (!Plain && of_last.first > mine);
      sums_of_rows<D, part> p, ds;
      scores<D, part>(p, k_tile, q_tiles.first(i % 2), at);  // the rows' own operands stay in shared memory: sums take the registers
      scores<D, part>(ds, v_tile, q_tiles.second(i % 2), at);
#pragma unroll
      for (int strip = 0; strip < strips<D>; ++strip)
#pragma unroll
        for (int n = 0; n < part / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int c = n * 8 + t * 2 + e % 2;
            const float2 of_query = of_queries[c];
            const int key = mine + strip * 16 + g + e / 2 * 8;
            const index_range sees = keys_in_sight<Plain>(a.sight, b, a.length, query + c);
            const bool seen = !masked || (key < sees.end && (Plain || sees.first <= key));
            float& x = p[strip].v[n][e];
            x = seen ? exp2_of(x * scale - of_query.x) : 0.0F;
            ds[strip].v[n][e] = a.scale * x * (ds[strip].v[n][e] - of_query.y);
          }
      add_weighted<D, part>(dv, p, q_tiles.second(i % 2), at);
      add_weighted<D, part>(dk, ds, q_tiles.first(i % 2), at);
    }
    wait_for_copies<0>();
    __syncthreads();
  }
  const std::int64_t to = (first + begin) * a.d_qkv_stride + kv * a.head_dim;
  write_rows<D>(dk, a.dk + to, a.d_qkv_stride, valid, a.head_dim);
  write_rows<D>(dv, a.dv + to, a.d_qkv_stride, valid, a.head_dim);
}

template <class Act>
void attention_backward_by_tiles(queue& q, const attention_backward_args<Act>& a) {
  const row_facts facts = facts_of(q, a);
  for_head_dim(a.head_dim, [&]<int D>() {
    const bool aligned = copies_whole<D>(a.head_dim, a.qkv_stride | a.heads * a.head_dim, a.q, a.k, a.v, a.d_o);
    for_sight(a.sight, [&]<bool Plain>() {
      launch(q, "attention's dq", attention_dq<Act, D, Plain>, grid_of(a.length, rows<D>, a.heads, a.batch), threads, bytes<Act, D>, a,
             facts, aligned);
      launch(q, "attention's dk and dv", attention_dk_dv<Act, D, Plain>, grid_of(a.length, rows<D>, a.kv_heads, a.batch), threads,
             bytes<Act, D>, a, facts, aligned);
    });
  });
}

}  // namespace

template <>
void attention_backward(stream& s, const attention_backward_args<bf16>& a) {
  queue& q = queue_of(s);
  hopper::takes(q, a) ? hopper::attention_backward(q, a) : attention_backward_by_tiles(q, a);
}

template <>
void attention_backward(stream& s, const attention_backward_args<float>& a) {
  queue& q = queue_of(s);
  wide_heads(q, a.head_dim) ? attention_backward_of_wide_heads(q, a) : attention_backward_by_tiles(q, a);
}

}  // namespace isthmus::kernels::cuda
