#include "kernels/cuda/attention_bf16.cuh"

#include "kernels/cuda/attention_hopper.hpp"
#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda {

namespace {

using namespace tiled;

template <int D, int Warps>
__global__ void __launch_bounds__(Warps* warp_size) attention_rows(attention_args<bf16> a, bool aligned) {
  constexpr int rows = Warps * rows_a_warp<D>, threads = Warps * warp_size;
  extern __shared__ __align__(16) __nv_bfloat16 memory[];
  const passing_tiles<D, threads> kv_tiles{memory, a.head_dim, aligned};
  const bf16_tile<D> q_tile{memory + 4 * tile_numbers<D>};
  // The longest rows first: they take the most tiles.
  const std::int64_t begin = static_cast<std::int64_t>(gridDim.x - 1 - blockIdx.x) * rows, h = blockIdx.y, b = blockIdx.z;
  const std::int64_t first = b * a.length, valid = least(rows, a.length - begin), kv = h * a.kv_heads / a.heads * a.head_dim;
  const bf16 *k = a.k + first * a.qkv_stride + kv, *v = a.v + first * a.qkv_stride + kv;
  const auto tiles = static_cast<int>((begin + valid + tile - 1) / tile);
  const auto start = [&](int i) {
    const std::int64_t at = i * tile * a.qkv_stride;
    kv_tiles.start(i % 2, k + at, a.qkv_stride, v + at, a.qkv_stride, a.length - i * tile);
  };
  start_copy<rows, D, threads>(q_tile, a.q + (first + begin) * a.qkv_stride + h * a.head_dim, a.qkv_stride, valid, a.head_dim, aligned);
  start(0);
  wait_for_copies<0>();
  __syncthreads();
  held_rows<D> q;
  q.load(q_tile);
  sums_of_rows<D, D> o;
  clear<D, D>(o);
  running_softmax softmax[strips<D>];
  const auto mine = static_cast<int>(begin) + first_row_of_warp<D>();
  const float scale = a.scale * log2_e;
  for (int i = 0; i < tiles; ++i) {
    if (i + 1 < tiles) start(i + 1);
    const int key = i * tile;
    if (key < mine + rows_a_warp<D>) {  // else all of it is behind the warp's rows
      sums_of_rows<D, tile> s;
      scores<D, tile>(s, q, kv_tiles.first(i % 2), 0);
      if (key + tile - 1 > mine)
#pragma unroll
        for (int strip = 0; strip < strips<D>; ++strip)
          s[strip].each([&](int r, int c, float& x) {
            if (key + c > mine + strip * 16 + r) x = low;
          });
#pragma unroll
      for (int strip = 0; strip < strips<D>; ++strip) {
        float keep[2];
        softmax[strip].step(s[strip], scale, keep);
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

}  // namespace

template <>
void attention(stream& s, const attention_args<bf16>& a) {
  queue& q = queue_of(s);
  if (hopper::takes(q, a)) return hopper::attention(q, a);
  for_head_dim(a.head_dim, [&]<int D>() {
    constexpr int rows = 128, warps = rows / rows_a_warp<D>;
    const bool aligned = copies_whole<D>(a.head_dim, a.qkv_stride, a.q, a.k, a.v);
    launch(q, "attention", attention_rows<D, warps>, grid_of(a.length, rows, a.heads, a.batch), warps * warp_size,
           (4 * tile_numbers<D> + rows * bf16_tile<D>::stride) * sizeof(bf16), a, aligned);
  });
}

}  // namespace isthmus::kernels::cuda
