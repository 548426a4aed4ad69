#pragma once

#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/tensor_map.hpp"

// Attention in bf16 as Hopper has it (Shah et al. 2024, arXiv:2407.08608): the copy engine brings tiles, groups of four warps hold 64 rows
// each, and weights go from one product's sums into the next product without leaving their registers.
namespace isthmus::kernels::cuda::hopper {

/// Where a tile lies in a ring of `Stages`, and whether its place is used an odd time. Counted: a division a tile costs too much.
template <int Stages>
struct place {
  int stage = 0, parity = 0;
  __device__ void next() {
    if (++stage < Stages) return;
    stage = 0;
    parity ^= 1;
  }
};

/// Tiles that pass by in shared memory.
template <int Rows, int D, int Stages>
struct ring {
  alignas(1024) __nv_bfloat16 numbers[Stages][Rows * D];
  barrier full[Stages], empty[Stages];

  /// readers: warps.
  __device__ void init(int readers) {
    for (int i = 0; i < Stages; ++i) {
      full[i].init(1);
      empty[i].init(readers);
    }
  }
  __device__ swizzled_tile<Rows, D> tile(int stage) { return swizzled_tile<Rows, D>::at(shared_address(numbers)) + stage; }
  /// Starts a tile's copy once the one before it at this place has been read.
  __device__ void bring(place<Stages> to, const CUtensorMap& from, int head, int row, int batch) {
    empty[to.stage].wait(to.parity ^ 1);
    full[to.stage].arrive_expecting(swizzled_tile<Rows, D>::bytes);
    start_tile(tile(to.stage), from, full[to.stage], head, row, batch);
  }
  __device__ void wait(place<Stages> at) { full[at.stage].wait(at.parity); }
  /// The warp has read the tile.
  __device__ void release(int stage) {
    __syncwarp();
    if (tiled::lane() == 0) empty[stage].arrive();
  }
  /// A tile that the warp does not need.
  __device__ void skip(place<Stages> at) {
    wait(at);
    release(at.stage);
  }
};

/// The number, which is the same in all lanes; found by a reduction, for then the compiler knows it, too, and describes operands by
/// instructions that the warp executes once.
__device__ inline int same_in_all_lanes(int v) { return static_cast<int>(__reduce_min_sync(~0U, static_cast<unsigned>(v))); }

/// The group of four warps.
__device__ inline int group_of_thread() { return same_in_all_lanes(static_cast<int>(threadIdx.x) / group_threads); }
/// The first of the warp's rows within those of the block.
__device__ inline int first_row_of_warp() { return static_cast<int>(threadIdx.x) / warp_size * 16; }

/// Brings the tiles of keys and values that a block of rows sees, from the first on. One thread holds it.
template <int Rows, int D, int Stages>
struct bringer_of_keys {
  ring<Rows, D, Stages>&k, &v;
  const CUtensorMap &k_map, &v_map;
  int head, batch, tiles, next = 0;
  place<Stages> to{};

  __device__ void bring() {
    if (next == tiles) return;
    k.bring(to, k_map, head, next * Rows, batch);
    v.bring(to, v_map, head, next * Rows, batch);
    to.next();
    ++next;
  }
};

/// Overwrites those of the lane's numbers for which hidden(column - row) holds, counted from the lane's first column and row.
template <int Columns, class F>
__device__ void hide(accumulator<Columns>& c, float by, F hidden) {
#pragma unroll
  for (int n = 0; n < Columns / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (hidden(n * 8 + e % 2 - e / 2 * 8)) c.v[n][e] = by;
}
/// The lane's first row of the warp's 16, and its first column.
__device__ inline int lane_row() { return tiled::lane() / 4; }
__device__ inline int lane_column() { return tiled::lane() % 4 * 2; }

/// Neighbouring blocks take the heads of the same rows: those that share keys and values run together, and the longest rows come first.
inline dim3 grid_of(std::int64_t length, int rows, std::int64_t heads, std::int64_t batch) {
  return {static_cast<unsigned>(heads), static_cast<unsigned>(ceil_div(length, rows)), static_cast<unsigned>(batch)};
}

/// The matrices of the arguments of the forward or the backward pass, as the copy engine reads them.
template <class Args>
head_rows queries_of(const Args& a) {
  return {a.q, a.batch, a.length, a.heads, a.head_dim, a.qkv_stride};
}
template <class Args>
head_rows keys_of(const Args& a) {
  return {a.k, a.batch, a.length, a.kv_heads, a.head_dim, a.qkv_stride};
}
template <class Args>
head_rows values_of(const Args& a) {
  return {a.v, a.batch, a.length, a.kv_heads, a.head_dim, a.qkv_stride};
}

template <class F>
void for_head_dim(std::int64_t head_dim, F f) {
  if (head_dim <= 64) return f.template operator()<64>();
  return f.template operator()<128>();
}

}  // namespace isthmus::kernels::cuda::hopper
