#include "kernels/cuda/attention_tiles.cuh"

#include "kernels/cuda/attention_hopper.hpp"
#include "kernels/cuda/ops.hpp"

// With a window or documents blocks start at the first tile that one of their rows sees, and warps pass over those that none of theirs does.
namespace isthmus::kernels::cuda {

namespace {

using namespace tiled;

constexpr int warps = 4, threads = warps * warp_size;
template <int D>
constexpr int rows = warps* rows_a_warp<D>;
template <class Act, int D>
constexpr std::size_t bytes = passing_tiles<Act, D, threads>::bytes + rows<D>* rows_in_memory<Act, D>::stride * sizeof(Act);

template <class Act, int D, bool Plain>
__global__ void __launch_bounds__(threads) attention_rows(attention_args<Act> a, bool aligned) {
  constexpr int tile = tiled::tile<Act, D>;
  extern __shared__ __align__(16) std::byte memory[];
  const passing_tiles<Act, D, threads> kv_tiles{memory, a.head_dim, aligned};
  const rows_in_memory<Act, D> q_tile = kv_tiles.at(4);
  // The longest rows first: they take the most tiles.
  const std::int64_t begin = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * rows<D>, h = blockIdx.y, b = blockIdx.z;
  const std::int64_t first = b * a.length, valid = least(rows<D>, a.length - begin), kv = h * a.kv_heads / a.heads * a.head_dim;
  const Act *k = a.k + first * a.qkv_stride + kv, *v = a.v + first * a.qkv_stride + kv;
  const auto sight_of = [&](std::int64_t query) { return keys_in_sight<Plain>(a.sight, b, a.length, query); };
  const int tiles = (sight_of(begin + valid - 1).end + tile - 1) / tile;
  const int first_tile = sight_of(begin).first / tile;
  const auto start = [&](int i) {
    const std::int64_t at = i * tile * a.qkv_stride;
    kv_tiles.start(i % 2, k + at, a.qkv_stride, v + at, a.qkv_stride, a.length - i * tile);
  };
  start_copy<rows<D>, threads>(q_tile, a.q + (first + begin) * a.qkv_stride + h * a.head_dim, a.qkv_stride, valid, a.head_dim, aligned);
  start(first_tile);
  wait_for_copies<0>();
  __syncthreads();
  const own_rows<Act, D> q{q_tile};
  sums_of_rows<D, D> o;
  clear<D, D>(o);
  running_softmax softmax[strips<D>];
  const auto mine = static_cast<int>(begin) + first_row_of_warp<D>();
  const index_range of_first = sight_of(mine), of_last = sight_of(mine + rows_a_warp<D> - 1);
  for (int i = first_tile; i < tiles; ++i) {
    if (i + 1 < tiles) start(i + 1);
    const int key = i * tile;
    if (key < of_last.end && (Plain || key + tile > of_first.first)) {  // else the warp's rows see nothing of it
      sums_of_rows<D, tile> s;
      scores<D, tile>(s, q, kv_tiles.first(i % 2), 0);
      if (key + tile > of_first.end || (!Plain && key < of_last.first))
#pragma unroll
        for (int strip = 0; strip < strips<D>; ++strip)
          s[strip].each([&](int r, int c, float& x) {
            const index_range seen = sight_of(mine + strip * 16 + r);
            if (key + c >= seen.end || (!Plain && key + c < seen.first)) x = low;
          });
#pragma unroll
      for (int strip = 0; strip < strips<D>; ++strip) {
        float keep[2];
        softmax[strip].template step<Plain>(s[strip], a.scale * log2_e, keep);
        scale_rows(o[strip], keep);
      }
      add_weighted<D, tile>(o, s, kv_tiles.second(i % 2), 0);
    }
    wait_for_copies<0>();
    __syncthreads();
  }
#pragma unroll
  for (int strip = 0; strip < strips<D>; ++strip) {
    const std::int64_t row = mine + strip * 16 + lane() / 4;
    softmax[strip].end(o[strip], a.scale, a.lse + (b * a.heads + h) * a.length + row, a.length - row);
  }
  write_rows<D>(o, a.o + ((first + begin) * a.heads + h) * a.head_dim, a.heads * a.head_dim, valid, a.head_dim);
}

template <class Act>
void attention_by_tiles(queue& q, const attention_args<Act>& a) {
  for_head_dim(a.head_dim, [&]<int D>() {
    const bool aligned = copies_whole<D>(a.head_dim, a.qkv_stride, a.q, a.k, a.v);
    for_sight(a.sight, [&]<bool Plain>() {
      launch(q, "attention", attention_rows<Act, D, Plain>, grid_of(a.length, rows<D>, a.heads, a.batch), threads, bytes<Act, D>, a,
             aligned);
    });
  });
}

}  // namespace

template <>
void attention(stream& s, const attention_args<bf16>& a) {
  queue& q = queue_of(s);
  hopper::takes(q, a) ? hopper::attention(q, a) : attention_by_tiles(q, a);
}

template <>
void attention(stream& s, const attention_args<float>& a) {
  queue& q = queue_of(s);
  wide_heads(q, a.head_dim) ? attention_of_wide_heads(q, a) : attention_by_tiles(q, a);
}

}  // namespace isthmus::kernels::cuda
