#include "kernels/cuda/attention_hopper.cuh"

#include "kernels/cuda/attention_hopper.hpp"
#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda::hopper {

namespace {

using namespace tiled;

constexpr int tile = 64;  // rows of a tile that passes by: of keys and values for dq, of queries and d_o for dk and dv

/// Blocks of one group each, three to a multiprocessor, hide each other's beginning and end; heads over 64 leave registers for two
/// groups only, which then share their tiles.
template <int D>
constexpr int groups = D <= 64 ? 1 : 2;
template <int D>
constexpr int blocks = D <= 64 ? 3 : 1;
constexpr int stages = 3;
/// Each tile then asks for one more. One group can ask for the place that it has just left; of two, one would wait for the other.
template <int D>
constexpr int tiles_at_first = stages + 1 - groups<D>;

/// The block's own rows, of two matrices, and the tiles of two others.
template <int D>
struct backward_memory {
  static constexpr int rows = groups<D> * group_rows;
  alignas(1024) __nv_bfloat16 own[2][rows * D];
  ring<tile, D, stages> first, second;
  barrier own_full;

  __device__ auto own_tile(int i) { return swizzled_tile<rows, D>::at(shared_address(own)) + i; }
  __device__ void init() {
    first.init(groups<D> * 4);
    second.init(groups<D> * 4);
    own_full.init(1);
    publish_barriers();
  }
  __device__ void bring_own(const CUtensorMap& one, const CUtensorMap& two, int head, int row, int batch) {
    own_full.arrive_expecting(2 * swizzled_tile<rows, D>::bytes);
    start_tile(own_tile(0), one, own_full, head, row, batch);
    start_tile(own_tile(1), two, own_full, head, row, batch);
  }
};

/// Weights from scores, of rows that each have their lse.
__device__ void weigh_rows(accumulator<tile>& s, float scale, const float (&lse)[2]) {
#pragma unroll
  for (int n = 0; n < tile / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) s.v[n][e] = exp2_of(s.v[n][e] * scale - lse[e / 2]);
}
/// Slopes of the scores, but for their scale, in place of d_o . v.
__device__ void slope_of_rows(accumulator<tile>& dp, const accumulator<tile>& p, const float (&mean)[2]) {
#pragma unroll
  for (int n = 0; n < tile / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) dp.v[n][e] = p.v[n][e] * (dp.v[n][e] - mean[e / 2]);
}
/// The same where columns have them: each lane holds those of two neighbours.
__device__ float2 of_columns(float2 held, int n) {
  const int from = n * 4 + lane() % 4;
  return {__shfl_sync(~0U, held.x, from), __shfl_sync(~0U, held.y, from)};
}
__device__ void weigh_columns(accumulator<tile>& s, float scale, float2 lse) {
#pragma unroll
  for (int n = 0; n < tile / 8; ++n) {
    const float2 two = of_columns(lse, n);
#pragma unroll
    for (int e = 0; e < 4; ++e) s.v[n][e] = exp2_of(s.v[n][e] * scale - (e % 2 ? two.y : two.x));
  }
}
__device__ void slope_of_columns(accumulator<tile>& dp, const accumulator<tile>& p, float2 mean) {
#pragma unroll
  for (int n = 0; n < tile / 8; ++n) {
    const float2 two = of_columns(mean, n);
#pragma unroll
    for (int e = 0; e < 4; ++e) dp.v[n][e] = p.v[n][e] * (dp.v[n][e] - (e % 2 ? two.y : two.x));
  }
}

/// Scores of the group's rows, from `within` on, with a tile of the first ring, and d_o . v with one of the second: two groups of
/// products, so that the weights are found while the second runs. `last`: what else goes into that one.
template <class Memory, class F>
__device__ void start_scores_and_slopes(Memory& m, int within, place<stages> at, int stage, accumulator<tile>& p, accumulator<tile>& ds,
                                        F last) {
  m.first.wait(at);
  begin_products();
  start_scores(p, m.own_tile(0), within, m.first.tile(stage));
  commit_products();
  m.second.wait(at);
  begin_products();
  start_scores(ds, m.own_tile(1), within, m.second.tile(stage));
  last();
  commit_products();
}

/// dq of the block's rows. The product of a tile's slopes with its keys runs while the next tile's scores are found.
template <int D>
__global__ void __launch_bounds__(groups<D>* group_threads, blocks<D>)
    attention_dq(const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap d_o, const __grid_constant__ CUtensorMap k,
                 const __grid_constant__ CUtensorMap v, const __grid_constant__ attention_backward_args<bf16> a, row_facts all_facts) {
  extern __shared__ __align__(1024) std::byte raw[];
  auto& m = *reinterpret_cast<backward_memory<D>*>(raw);
  constexpr int rows = groups<D> * group_rows;
  const int begin = static_cast<int>(gridDim.y - 1 - blockIdx.y) * rows, h = blockIdx.x, b = blockIdx.z;
  const int within = group_of_thread() * group_rows, row = begin + first_row_of_warp() + lane_row();
  const auto tiles = static_cast<int>((least(begin + rows, a.length) + tile - 1) / tile);
  const int seen = min(tiles, (begin + within) / tile + 1);
  bringer_of_keys<tile, D, stages> keys{m.first, m.second, k, v, static_cast<int>(h * a.kv_heads / a.heads), b, tiles};
  const bool brings = threadIdx.x == (groups<D> - 1) * group_threads;  // of the group that sees most
  if (threadIdx.x == 0) m.init();
  __syncthreads();
  if (brings) {
    m.bring_own(q, d_o, h, begin, b);
    for (int i = 0; i < stages - 1; ++i) keys.bring();
  }
  __syncwarp();
  const row_facts facts = all_facts.of_head(b * a.heads + h);
  const std::int64_t one = least(row, facts.length - 1), other = least(row + 8, facts.length - 1);
  const float lse[2] = {facts.lse[one], facts.lse[other]}, mean[2] = {facts.mean[one], facts.mean[other]};
  accumulator<D> dq;
  accumulator<tile> p, ds;
  fragment_a slopes[tile / 16];
  m.own_full.wait(0);
  place<stages> at, before;
  start_scores_and_slopes(m, within, at, at.stage, p, ds, [] {});
  for (int i = 0;;) {
    wait_for_products<1>();
    settle(p);
    weigh_rows(p, a.scale * log2_e, lse);
    if (i + 1 == seen) hide(p, 0, [&](int ahead) { return i * tile + lane_column() + ahead > row; });
    wait_for_products<0>();
    settle(ds);
    settle(dq);
    m.second.release(at.stage);
    if (i > 0) m.first.release(before.stage);
    slope_of_rows(ds, p, mean);
    pack(slopes, ds);
    if (++i == seen) break;
    before = at;
    at.next();
    start_scores_and_slopes(m, within, at, at.stage, p, ds, [&] { start_weighted(dq, slopes, m.first.tile(before.stage), i > 1); });
    if (brings) keys.bring();
    __syncwarp();
  }
  begin_products();
  start_weighted(dq, slopes, m.first.tile(at.stage), seen > 1);
  commit_products();
  wait_for_products<0>();
  settle(dq);
  m.first.release(at.stage);
  for (int i = seen; i < tiles; ++i) {
    at.next();
    m.first.skip(at);
    m.second.skip(at);
  }
  scale_rows(dq, {a.scale, a.scale});
  write_strip(dq, begin + first_row_of_warp(), a.dq + b * a.length * a.d_qkv_stride + h * a.head_dim, a.d_qkv_stride, a.length, a.head_dim);
}

/// Brings the tiles of queries that see a block of keys, head by head, and of d_o. One thread holds it.
template <int D>
struct bringer_of_queries {
  ring<tile, D, stages>&q, &d_o;
  const CUtensorMap &q_map, &d_o_map;
  int begin, tiles, batch, head, last_head, next = 0;
  place<stages> to{};

  __device__ void bring() {
    if (head > last_head) return;
    q.bring(to, q_map, head, begin + next * tile, batch);
    d_o.bring(to, d_o_map, head, begin + next * tile, batch);
    to.next();
    if (++next < tiles) return;
    next = 0;
    ++head;
  }
};

/// dk and dv += what one tile of queries gives the group's keys; facts: from the tile's first row on. Rows of the scores are keys,
/// columns queries, so that weights and slopes are left operands as they are.
template <int D>
__device__ void add_queries(backward_memory<D>& m, bringer_of_queries<D>& queries, bool brings, int within, place<stages> at, bool first,
                            row_facts facts, float scale, accumulator<D>& dk, accumulator<D>& dv) {
  const int stage = same_in_all_lanes(at.stage);
  const float2 lse = reinterpret_cast<const float2*>(facts.lse)[lane()], mean = reinterpret_cast<const float2*>(facts.mean)[lane()];
  accumulator<tile> p, ds;
  fragment_a weights[tile / 16], slopes[tile / 16];
  start_scores_and_slopes(m, within, at, stage, p, ds, [] {});
  if (brings) queries.bring();
  __syncwarp();
  wait_for_products<1>();
  settle(p);
  weigh_columns(p, scale, lse);
  if (first) {
    const int key = first_row_of_warp() - within + lane_row();
    hide(p, 0, [&](int ahead) { return lane_column() + ahead < key; });
  }
  pack(weights, p);
  wait_for_products<0>();
  settle(ds);
  slope_of_columns(ds, p, mean);
  pack(slopes, ds);
  settle(dv);
  settle(dk);
  begin_products();
  start_weighted(dv, weights, m.second.tile(stage), true);
  start_weighted(dk, slopes, m.first.tile(stage), true);
  commit_products();
  wait_for_products<0>();
  settle(dv);
  settle(dk);
  m.first.release(stage);
  m.second.release(stage);
}

/// dk and dv of the block's rows, over the queries of all heads that share them.
template <int D>
__global__ void __launch_bounds__(groups<D>* group_threads, blocks<D>)
    attention_dk_dv(const __grid_constant__ CUtensorMap k, const __grid_constant__ CUtensorMap v, const __grid_constant__ CUtensorMap q,
                    const __grid_constant__ CUtensorMap d_o, const __grid_constant__ attention_backward_args<bf16> a, row_facts all_facts) {
  extern __shared__ __align__(1024) std::byte raw[];
  auto& m = *reinterpret_cast<backward_memory<D>*>(raw);
  constexpr int rows = groups<D> * group_rows;
  const int begin = static_cast<int>(blockIdx.y) * rows, kv = blockIdx.x, b = blockIdx.z;
  const auto tiles = static_cast<int>((a.length - begin + tile - 1) / tile), heads_of_kv = static_cast<int>(a.heads / a.kv_heads);
  const int within = group_of_thread() * group_rows, unseen = min(within / tile, tiles), h = kv * heads_of_kv;
  bringer_of_queries<D> queries{m.first, m.second, q, d_o, begin, tiles, b, h, h + heads_of_kv - 1};
  const bool brings = threadIdx.x == 0;  // of the group that sees most
  if (threadIdx.x == 0) m.init();
  __syncthreads();
  if (brings) {
    m.bring_own(k, v, kv, begin, b);
    for (int i = 0; i < tiles_at_first<D>; ++i) queries.bring();
  }
  __syncwarp();
  accumulator<D> dk, dv;
  dk.clear();
  dv.clear();
  m.own_full.wait(0);
  place<stages> at;
  for (int i = 0; i < heads_of_kv; ++i) {
    const row_facts facts = all_facts.of_head(b * a.heads + h + i);
    for (int t = 0; t < unseen; ++t, at.next()) {
      m.first.skip(at);
      m.second.skip(at);
    }
    for (int t = unseen; t < tiles; ++t, at.next())
      add_queries(m, queries, brings && i + t > 0, within, at, t == unseen, facts.from(begin + t * tile), a.scale * log2_e, dk, dv);
  }
  scale_rows(dk, {a.scale, a.scale});
  const std::int64_t to = b * a.length * a.d_qkv_stride + kv * a.head_dim;
  write_strip(dk, begin + first_row_of_warp(), a.dk + to, a.d_qkv_stride, a.length, a.head_dim);
  write_strip(dv, begin + first_row_of_warp(), a.dv + to, a.d_qkv_stride, a.length, a.head_dim);
}

head_rows d_outputs_of(const attention_backward_args<bf16>& a) {
  return {a.d_o, a.batch, a.length, a.heads, a.head_dim, a.heads * a.head_dim};
}

}  // namespace

bool takes(const queue& q, const attention_backward_args<bf16>& a) {
  return a.sight.plain() && q.on_hopper() && 32 < a.head_dim && a.head_dim <= 128 && can_be_mapped(queries_of(a)) &&
         can_be_mapped(keys_of(a)) && can_be_mapped(values_of(a)) && can_be_mapped(d_outputs_of(a));
}

void attention_backward(queue& q, const attention_backward_args<bf16>& a) {
  if (a.length == 0 || a.batch == 0) return;
  const row_facts facts = facts_of(q, a);
  hopper::for_head_dim(a.head_dim, [&]<int D>() {
    constexpr int rows = groups<D> * group_rows, threads = groups<D> * group_threads;
    constexpr std::size_t bytes = sizeof(backward_memory<D>);
    launch(q, "attention's dq", attention_dq<D>, hopper::grid_of(a.length, rows, a.heads, a.batch), threads, bytes,
           map_of(queries_of(a), rows), map_of(d_outputs_of(a), rows), map_of(keys_of(a), tile), map_of(values_of(a), tile), a, facts);
    launch(q, "attention's dk and dv", attention_dk_dv<D>, hopper::grid_of(a.length, rows, a.kv_heads, a.batch), threads, bytes,
           map_of(keys_of(a), rows), map_of(values_of(a), rows), map_of(queries_of(a), tile), map_of(d_outputs_of(a), tile), a, facts);
  });
}

}  // namespace isthmus::kernels::cuda::hopper
