#pragma once

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/tensor_core.cuh"

#include <cstdint>
#include <string>

// Attention in bf16 on the tensor cores: Dao 2023, arXiv:2307.08691. A warp holds 16 or 32 query (or key) rows; tiles of 64 rows of the other
// side pass by in shared memory, the next one on its way while this one is multiplied.
namespace isthmus::kernels::cuda::tiled {

constexpr int tile = 64;
constexpr float low = -3.0e38F;

template <int D>
constexpr int tile_numbers = tile* bf16_tile<D>::stride;

/// How many times 16 rows a warp takes: each row of the tile that passes by is read from shared memory once for all of them.
template <int D>
constexpr int strips = D <= 64 ? 2 : 1;
template <int D>
constexpr int rows_a_warp = 16 * strips<D>;

__device__ inline int lane() { return threadIdx.x % warp_size; }
template <int D>
__device__ int first_row_of_warp() {
  return threadIdx.x / warp_size * rows_a_warp<D>;
}

/// 2^x for x <= 0.
__device__ inline float exp2_of(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Left operands of all D columns of the warp's rows.
template <int D>
struct held_rows {
  fragment_a k[strips<D>][D / 16];
  __device__ void load(const bf16_tile<D>& m) {
#pragma unroll
    for (int i = 0; i < D / 16; ++i) load(m, i);
  }
  __device__ void load(const bf16_tile<D>& m, int i) {
#pragma unroll
    for (int strip = 0; strip < strips<D>; ++strip) k[strip][i] = left_operand(m, first_row_of_warp<D>() + strip * 16, i);
  }
};
template <int D, int Columns>
using sums_of_rows = accumulator<Columns>[strips<D>];

template <int D, int Columns>
__device__ void clear(sums_of_rows<D, Columns>& sums) {
#pragma unroll
  for (auto& strip : sums) strip.clear();
}

/// out += the rows' columns [16 k, 16 k + 16) times those of Rows rows of m, from `first` on.
template <int D, int Rows>
__device__ void add_scores(sums_of_rows<D, Rows>& out, const held_rows<D>& rows, const bf16_tile<D>& m, int first, int k) {
#pragma unroll
  for (int n = 0; n < Rows / 16; ++n) {
    std::uint32_t b[4];
    load_matrices(b, m.place(first + n * 16 + lane() / 16 * 8 + lane() % 8, k * 16 + lane() / 8 % 2 * 8));
#pragma unroll
    for (int strip = 0; strip < strips<D>; ++strip) {
      multiply_add(out[strip].v[2 * n], rows.k[strip][k], b[0], b[1]);
      multiply_add(out[strip].v[2 * n + 1], rows.k[strip][k], b[2], b[3]);
    }
  }
}
/// out = rows m^T for Rows rows of m, from `first` on.
template <int D, int Rows>
__device__ void scores(sums_of_rows<D, Rows>& out, const held_rows<D>& rows, const bf16_tile<D>& m, int first) {
  clear<D, Rows>(out);
#pragma unroll
  for (int k = 0; k < D / 16; ++k) add_scores<D, Rows>(out, rows, m, first, k);
}
/// sums += weights m for Rows rows of m, from `first` on.
template <int D, int Rows>
__device__ void add_weighted(sums_of_rows<D, D>& sums, const sums_of_rows<D, Rows>& weights, const bf16_tile<D>& m, int first) {
#pragma unroll
  for (int k = 0; k < Rows / 16; ++k) {
    fragment_a a[strips<D>];
#pragma unroll
    for (int strip = 0; strip < strips<D>; ++strip) a[strip] = weights[strip].as_operand(k);
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      std::uint32_t b[4];
      load_matrices_transposed(b, m.place(first + k * 16 + lane() / 8 % 2 * 8 + lane() % 8, n * 16 + lane() / 16 * 8));
#pragma unroll
      for (int strip = 0; strip < strips<D>; ++strip) {
        multiply_add(sums[strip].v[2 * n], a[strip], b[0], b[1]);
        multiply_add(sums[strip].v[2 * n + 1], a[strip], b[2], b[3]);
      }
    }
  }
}

/// Two tiles that pass by, two times over.
template <int D, int Threads>
struct passing_tiles {
  __nv_bfloat16* memory;
  std::int64_t head_dim;
  bool aligned;

  __device__ bf16_tile<D> first(int stage) const { return {memory + stage * 2 * tile_numbers<D>}; }
  __device__ bf16_tile<D> second(int stage) const { return {memory + (stage * 2 + 1) * tile_numbers<D>}; }
  __device__ void start(int stage, const bf16* one, std::int64_t one_stride, const bf16* two, std::int64_t two_stride,
                        std::int64_t valid) const {
    start_copy<tile, D, Threads>(first(stage), one, one_stride, valid, head_dim, aligned);
    start_copy<tile, D, Threads>(second(stage), two, two_stride, valid, head_dim, aligned);
    commit_copies();
  }
};

/// The largest, or the sum, of a row of an accumulator, which four lanes hold.
__device__ inline float largest_of_four(float v) {
  for (int step = 1; step <= 2; step *= 2) v = fmaxf(v, __shfl_xor_sync(~0U, v, step));
  return v;
}
__device__ inline float sum_of_four(float v) {
  for (int step = 1; step <= 2; step *= 2) v += __shfl_xor_sync(~0U, v, step);
  return v;
}

/// The lane's two rows of an accumulator, each times its own number.
template <int D>
__device__ void scale_rows(accumulator<D>& sums, const float (&by)[2]) {
#pragma unroll
  for (int n = 0; n < D / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) sums.v[n][e] *= by[e / 2];
}

/// A softmax over the lane's two rows of 16 that comes tile by tile.
struct running_softmax {
  float peak[2] = {low, low}, total[2] = {};  // the largest score; this lane's part of the sum of exp(scale (score - peak))

  /// Turns a tile's scores into weights; keep: what the sums so far are to be multiplied by. scale: times log2 e.
  template <int Columns>
  __device__ void step(accumulator<Columns>& s, float scale, float (&keep)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float now = peak[half];
#pragma unroll
      for (int n = 0; n < Columns / 8; ++n) now = fmaxf(now, fmaxf(s.v[n][2 * half], s.v[n][2 * half + 1]));
      now = largest_of_four(now);
      const float scaled = now * scale;
      keep[half] = exp2_of((peak[half] - now) * scale);
      peak[half] = now;
      float sum = total[half] * keep[half];
#pragma unroll
      for (int n = 0; n < Columns / 8; ++n)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) sum += s.v[n][e] = exp2_of(s.v[n][e] * scale - scaled);
      total[half] = sum;
    }
  }
  /// Divides sums of weighted rows by the sum of their weights, and writes lse[0] and lse[8] of the first of the lane's rows, where
  /// there are `left` rows from it on.
  template <int D>
  __device__ void end(accumulator<D>& o, float scale, float* lse, std::int64_t left) {
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float all = sum_of_four(total[half]);
      inverse[half] = 1 / all;
      if (lane() % 4 == 0 && 8 * half < left) lse[8 * half] = peak[half] * scale + logf(all);
    }
    scale_rows(o, inverse);
  }
};

/// Writes 16 rows to out + row * stride, row from `first` on, where they are of `valid` rows.
template <int D>
__device__ void write_strip(const accumulator<D>& sums, int first, bf16* out, std::int64_t stride, std::int64_t valid,
                            std::int64_t head_dim) {
  const bool pairs = head_dim % 2 == 0 && stride % 2 == 0 && reinterpret_cast<std::uintptr_t>(out) % 4 == 0;
#pragma unroll
  for (int n = 0; n < D / 8; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + lane() / 4 + 8 * half, c = n * 8 + lane() % 4 * 2;
      if (row >= valid || c >= head_dim) continue;
      bf16* place = out + row * stride + c;
      const float x = sums.v[n][2 * half], y = sums.v[n][2 * half + 1];
      if (pairs) {
        *reinterpret_cast<__nv_bfloat162*>(place) = __floats2bfloat162_rn(x, y);
      } else {
        place[0] = narrow<bf16>(x);
        if (c + 1 < head_dim) place[1] = narrow<bf16>(y);
      }
    }
}
template <int D>
__device__ void write_rows(const sums_of_rows<D, D>& sums, bf16* out, std::int64_t stride, std::int64_t valid, std::int64_t head_dim) {
#pragma unroll
  for (int strip = 0; strip < strips<D>; ++strip)
    write_strip(sums[strip], first_row_of_warp<D>() + strip * 16, out, stride, valid, head_dim);
}

template <class F>
void for_head_dim(std::int64_t head_dim, F f) {
  if (head_dim <= 32) return f.template operator()<32>();
  if (head_dim <= 64) return f.template operator()<64>();
  if (head_dim <= 128) return f.template operator()<128>();
  throw device_error("attention on the GPU in bf16: head_dim is " + std::to_string(head_dim) + ", at most 128 are there");
}

/// Whether rows can be copied 16 bytes at a time.
template <int D, class... Pointers>
bool copies_whole(std::int64_t head_dim, std::int64_t strides_or, Pointers... pointers) {
  return head_dim == D && strides_or % 8 == 0 && ((reinterpret_cast<std::uintptr_t>(pointers) % 16 == 0) && ...);
}

inline dim3 grid_of(std::int64_t length, int rows, std::int64_t heads, std::int64_t batch) {
  return {static_cast<unsigned>(ceil_div(length, rows)), static_cast<unsigned>(heads), static_cast<unsigned>(batch)};
}

}  // namespace isthmus::kernels::cuda::tiled
