#include "kernels/cuda/attention_bf16.cuh"

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_hopper.hpp"
#include "kernels/cuda/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::cuda {

namespace {

using namespace tiled;

constexpr int backward_warps = 4, backward_threads = backward_warps * warp_size, part = 32;  // columns of scores at once
template <int D>
constexpr int backward_rows = backward_warps* rows_a_warp<D>;

template <int D>
__global__ void __launch_bounds__(backward_threads) attention_dq(attention_backward_args<bf16> a, row_facts all_facts, bool aligned) {
  extern __shared__ __align__(16) __nv_bfloat16 memory[];
  const passing_tiles<D, backward_threads> kv_tiles{memory, a.head_dim, aligned};
  const bf16_tile<D> q_tile{memory}, d_o_tile{memory + backward_rows<D> * bf16_tile<D>::stride};  // before the tiles pass by
  const std::int64_t begin = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * backward_rows<D>, h = blockIdx.y, b = blockIdx.z;
  const std::int64_t first = b * a.length, valid = least(backward_rows<D>, a.length - begin), kv = h * a.kv_heads / a.heads * a.head_dim;
  const bf16 *k = a.k + first * a.qkv_stride + kv, *v = a.v + first * a.qkv_stride + kv;
  const std::int64_t o_stride = a.heads * a.head_dim;
  const auto tiles = static_cast<int>((begin + valid + tile - 1) / tile);
  const auto start = [&](int i) {
    const std::int64_t at = i * tile * a.qkv_stride;
    kv_tiles.start(i % 2, k + at, a.qkv_stride, v + at, a.qkv_stride, a.length - i * tile);
  };
  constexpr int rows = backward_rows<D>;
  start_copy<rows, D, backward_threads>(q_tile, a.q + (first + begin) * a.qkv_stride + h * a.head_dim, a.qkv_stride, valid, a.head_dim,
                                        aligned);
  start_copy<rows, D, backward_threads>(d_o_tile, a.d_o + (first + begin) * o_stride + h * a.head_dim, o_stride, valid, a.head_dim,
                                        aligned);
  commit_copies();
  wait_for_copies<0>();
  __syncthreads();
  held_rows<D> q, d_o;
  q.load(q_tile);
  d_o.load(d_o_tile);
  __syncthreads();
  start(0);
  const auto mine = static_cast<int>(begin) + first_row_of_warp<D>();
  const int g = lane() / 4, t = lane() % 4;
  const row_facts facts = all_facts.of_head(b * a.heads + h);
  float lse[strips<D>][2], pull[strips<D>][2];
#pragma unroll
  for (int strip = 0; strip < strips<D>; ++strip)
    for (int half = 0; half < 2; ++half) {
      const std::int64_t at = least(mine + strip * 16 + 8 * half + g, facts.length - 1);
      lse[strip][half] = facts.lse[at];
      pull[strip][half] = facts.mean[at];
    }
  sums_of_rows<D, D> dq;
  clear<D, D>(dq);
  const float scale = a.scale * log2_e;
  wait_for_copies<0>();
  __syncthreads();
  for (int i = 0; i < tiles; ++i) {
    if (i + 1 < tiles) start(i + 1);
#pragma unroll
    for (int at = 0; at < tile; at += part) {
      const int key = i * tile + at;
      if (key >= mine + rows_a_warp<D>) continue;
      const bool masked = key + part - 1 > mine;
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
            const bool seen = !masked || key + n * 8 + t * 2 + e % 2 <= mine + strip * 16 + g + e / 2 * 8;
            x = seen ? a.scale * p * (dp[strip].v[n][e] - pull[strip][e / 2]) : 0.0F;
          }
      add_weighted<D, part>(dq, s, kv_tiles.first(i % 2), at);
    }
    wait_for_copies<0>();
    __syncthreads();
  }
  write_rows<D>(dq, a.dq + (first + begin) * a.d_qkv_stride + h * a.head_dim, a.d_qkv_stride, valid, a.head_dim);
}

template <int D>
__global__ void __launch_bounds__(backward_threads) attention_dk_dv(attention_backward_args<bf16> a, row_facts all_facts, bool aligned) {
  constexpr int rows = backward_rows<D>;
  extern __shared__ __align__(16) __nv_bfloat16 memory[];
  const passing_tiles<D, backward_threads> q_tiles{memory, a.head_dim, aligned};
  const bf16_tile<D> k_tile{memory + 4 * tile_numbers<D>}, v_tile{k_tile.at + rows * bf16_tile<D>::stride};
  auto* facts_of_stage = reinterpret_cast<float2*>(v_tile.at + rows * bf16_tile<D>::stride);  // [2, tile]: lse and mean
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * rows, kv = blockIdx.y, b = blockIdx.z, group = a.heads / a.kv_heads;
  const std::int64_t first = b * a.length, valid = least(rows, a.length - begin), o_stride = a.heads * a.head_dim;
  const auto tiles = static_cast<int>((a.length - begin + tile - 1) / tile), steps = static_cast<int>(group) * tiles;
  const auto start = [&](int i) {
    const std::int64_t h = kv * group + i / tiles, r = begin + static_cast<std::int64_t>(i % tiles) * tile;
    q_tiles.start(i % 2, a.q + (first + r) * a.qkv_stride + h * a.head_dim, a.qkv_stride, a.d_o + (first + r) * o_stride + h * a.head_dim,
                  o_stride, a.length - r);
    const row_facts facts = all_facts.of_head(b * a.heads + h);
    if (threadIdx.x < tile) facts_of_stage[i % 2 * tile + threadIdx.x] = {facts.lse[r + threadIdx.x], facts.mean[r + threadIdx.x]};
  };
  const std::int64_t from = (first + begin) * a.qkv_stride + kv * a.head_dim;
  start_copy<rows, D, backward_threads>(k_tile, a.k + from, a.qkv_stride, valid, a.head_dim, aligned);
  start_copy<rows, D, backward_threads>(v_tile, a.v + from, a.qkv_stride, valid, a.head_dim, aligned);
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
      const int query = static_cast<int>(begin) + i % tiles * tile + at;
      if (query + part - 1 < mine) continue;
      const float2* of_queries = facts_of_stage + i % 2 * tile + at;
      const bool masked = query < mine + rows_a_warp<D>;
      sums_of_rows<D, part> p, ds;
      clear<D, part>(p);
      clear<D, part>(ds);
#pragma unroll
      for (int k = 0; k < D / 16; ++k) {  // the rows' own operands come from shared memory: sums take the registers
        held_rows<D> own;
        own.load(k_tile, k);
        add_scores<D, part>(p, own, q_tiles.first(i % 2), at, k);
        own.load(v_tile, k);
        add_scores<D, part>(ds, own, q_tiles.second(i % 2), at, k);
      }
#pragma unroll
      for (int strip = 0; strip < strips<D>; ++strip)
#pragma unroll
        for (int n = 0; n < part / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int c = n * 8 + t * 2 + e % 2;
            const float2 of_query = of_queries[c];
            const bool seen = !masked || mine + strip * 16 + g + e / 2 * 8 <= query + c;
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

}  // namespace

template <>
void attention_backward(stream& s, const attention_backward_args<bf16>& a) {
  queue& q = queue_of(s);
  if (hopper::takes(q, a)) return hopper::attention_backward(q, a);
  const row_facts facts = facts_of(q, a);
  for_head_dim(a.head_dim, [&]<int D>() {
    constexpr int rows = backward_rows<D>;
    constexpr std::size_t passing = 4 * tile_numbers<D> * sizeof(bf16), own = 2 * rows * bf16_tile<D>::stride * sizeof(bf16);
    const bool aligned = copies_whole<D>(a.head_dim, a.qkv_stride | a.heads * a.head_dim, a.q, a.k, a.v, a.d_o);
    launch(q, "attention's dq", attention_dq<D>, grid_of(a.length, rows, a.heads, a.batch), backward_threads, std::max(passing, own), a,
           facts, aligned);
    launch(q, "attention's dk and dv", attention_dk_dv<D>, grid_of(a.length, rows, a.kv_heads, a.batch), backward_threads,
           passing + own + 2 * tile * sizeof(float2), a, facts, aligned);
  });
}

}  // namespace isthmus::kernels::cuda
