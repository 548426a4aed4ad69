#pragma once

#include "kernels/cuda/square.cuh"
#include "kernels/ssd.hpp"

// Mamba-2 in tiles of at most 64 rows, none across the end of a chunk: what one tile adds to the state, a scan over tiles, and what
// each row gets from its own tile and from the state before it. Dao & Gu 2024, arXiv:2405.21060, section 6.
namespace isthmus::kernels::cuda {

/// How rows are cut: tile i holds rows [begin(i), begin(i) + rows(i)), possibly none.
struct ssd_tiles {
  std::int64_t length, chunk, in_chunk, count;

  static ssd_tiles of(std::int64_t length, std::int64_t chunk) {
    const std::int64_t in_chunk = ceil_div(chunk, side);
    return {length, chunk, in_chunk, ceil_div(length, chunk) * in_chunk};
  }
  __device__ std::int64_t begin(std::int64_t i) const { return i / in_chunk * chunk + i % in_chunk * side; }
  __device__ std::int64_t rows(std::int64_t i) const {
    const std::int64_t end = least((i / in_chunk + 1) * chunk, length);
    return most(0, least(side, end - begin(i)));
  }
};

/// Where the tile of this block lies: blocks are [tile, head, sequence].
struct ssd_place {
  std::int64_t tile, h, b, rows, first;  // first: its first row of all
  __device__ explicit ssd_place(const ssd_tiles& t)
      : tile(blockIdx.x), h(blockIdx.y), b(blockIdx.z), rows(t.rows(tile)), first(b * t.length + t.begin(tile)) {}
};

/// Of each row and head, [batch, heads, length]: the time step, its slope in dt, and the sum of the log decays of its tile so far.
/// Of each tile and head, [batch, heads, tiles]: the decay from its beginning to its end.
struct ssd_times {
  float *delta, *slope, *total, *decay;
};

/// What one row adds to the state of its tile's end, as an outer product: U = sum_t weight_t left_t right_t^T.
template <class Act>
struct ssd_outer {
  const Act *left, *right;  // [rows, heads * head_dim], [rows, groups * state]
  std::int64_t left_stride, right_stride;
  bool to_the_end;  // weight: exp(total_end - total_t) delta_t; else exp(total_t)
};

struct ssd_extents {
  std::int64_t batch, heads, head_dim, groups, state;
  std::int64_t state_size() const { return head_dim * state; }
};

/// Fills times; dt: [batch * length, heads], rows dt_stride apart.
template <class Act>
void ssd_time_steps(queue& q, const ssd_extents& e, const ssd_tiles& t, const Act* dt, std::int64_t dt_stride, const float* dt_bias,
                    const float* a_log, float dt_min, float dt_max, const ssd_times& times);

/// added[b, tile, h, p, n] = U of the tile.
template <class Act>
void ssd_added(queue& q, const ssd_extents& e, const ssd_tiles& t, const ssd_times& times, const ssd_outer<Act>& outer, float* added,
               bool vectors);

}  // namespace isthmus::kernels::cuda
