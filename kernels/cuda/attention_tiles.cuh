#pragma once

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/tensor_core.cuh"

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

// Attention on the tensor cores: Dao 2023, arXiv:2307.08691. A warp holds 16 or 32 query (or key) rows; tiles of rows of the other side
// pass by in shared memory, the next one on its way while this one is multiplied.
namespace isthmus::kernels::cuda::tiled {

constexpr float low = -3.0e38F;

/// Rows of a tile that passes by.
template <class Act, int D>
constexpr int tile = sizeof(Act) * D <= 128 ? 64 : 32;
template <class Act, int D>
using rows_in_memory = padded_tile<std::conditional_t<std::is_same_v<Act, float>, float, __nv_bfloat16>, D>;
template <class Act, int D>
constexpr int tile_numbers = tile<Act, D>* rows_in_memory<Act, D>::stride;

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

template <int D, int Columns>
using sums_of_rows = accumulator<Columns>[strips<D>];

template <int D, int Columns>
__device__ void clear(sums_of_rows<D, Columns>& sums) {
#pragma unroll
  for (auto& strip : sums) strip.clear();
}

/// out = the warp's rows of a tile times those of `Rows` rows of m, from `first` on.
template <int D, int Rows, class T>
__device__ void scores(sums_of_rows<D, Rows>& out, const padded_tile<T, D>& rows, const padded_tile<T, D>& m, int first) {
  clear<D, Rows>(out);
#pragma unroll(sizeof(T) == 4 ? 2 : D / m.step)
  for (int k = 0; k < D / m.step; ++k) {
    left_fragment<T> a[strips<D>];
#pragma unroll
    for (int strip = 0; strip < strips<D>; ++strip) a[strip] = left_operand(rows, first_row_of_warp<D>() + strip * 16, k);
    add_product_transposed(out, a, m, first, k);
  }
}
/// The warp's rows as left operands in registers, where there are enough of these.
template <class T, int D>
struct held_rows {
  left_fragment<T> k[D / padded_tile<T, D>::step][strips<D>];
  __device__ explicit held_rows(const padded_tile<T, D>& m) {
#pragma unroll
    for (int i = 0; i < D / m.step; ++i)
#pragma unroll
      for (int strip = 0; strip < strips<D>; ++strip) k[i][strip] = left_operand(m, first_row_of_warp<D>() + strip * 16, i);
  }
};
template <int D, int Rows, class T>
__device__ void scores(sums_of_rows<D, Rows>& out, const held_rows<T, D>& rows, const padded_tile<T, D>& m, int first) {
  clear<D, Rows>(out);
#pragma unroll
  for (int k = 0; k < D / m.step; ++k) add_product_transposed(out, rows.k[k], m, first, k);
}
/// What scores reads: in fp32, where an operand takes twice the registers and is split on top of that, the tile itself.
template <class Act, int D>
using own_rows = std::conditional_t<std::is_same_v<Act, float>, rows_in_memory<float, D>, held_rows<__nv_bfloat16, D>>;

/// sums += weights m for Rows rows of m, from `first` on.
template <int D, int Rows>
__device__ void add_weighted(sums_of_rows<D, D>& sums, const sums_of_rows<D, Rows>& weights, const bf16_tile<D>& m, int first) {
#pragma unroll
  for (int k = 0; k < Rows / 16; ++k) {
    fragment_a a[strips<D>];
#pragma unroll
    for (int strip = 0; strip < strips<D>; ++strip) a[strip] = weights[strip].template as_operand<__nv_bfloat16>(k);
    add_product(sums, a, m, first, k);
  }
}
template <int D, int Rows>
__device__ void add_weighted(sums_of_rows<D, D>& sums, const sums_of_rows<D, Rows>& weights, const padded_tile<float, D>& m, int first) {
#pragma unroll
  for (int k = 0; k < Rows / 16; ++k) {
    split_fragment a[2][strips<D>];
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int strip = 0; strip < strips<D>; ++strip) a[half][strip] = weights[strip].template as_operand<float>(2 * k + half);
    add_product(sums, a, m, first + k * 16);
  }
}

/// Two tiles that pass by, two times over.
template <class Act, int D, int Threads>
struct passing_tiles {
  std::byte* memory;
  std::int64_t head_dim;
  bool aligned;
  static constexpr std::size_t bytes = 4 * tile_numbers<Act, D> * sizeof(Act);

  __device__ rows_in_memory<Act, D> at(int i) const {
    return {reinterpret_cast<decltype(rows_in_memory<Act, D>::at)>(memory) + i * tile_numbers<Act, D>};
  }
  __device__ auto first(int stage) const { return at(stage * 2); }
  __device__ auto second(int stage) const { return at(stage * 2 + 1); }
  __device__ void start(int stage, const Act* one, std::int64_t one_stride, const Act* two, std::int64_t two_stride,
                        std::int64_t valid) const {
    start_copy<tile<Act, D>, Threads>(first(stage), one, one_stride, valid, head_dim, aligned);
    start_copy<tile<Act, D>, Threads>(second(stage), two, two_stride, valid, head_dim, aligned);
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

  /// Turns a tile's scores into weights; keep: what the sums so far are to be multiplied by. scale: times log2 e. Seen: every row has seen
  /// a key by now, else those that have not get weights of zero.
  template <bool Seen = true, int Columns>
  __device__ void step(accumulator<Columns>& s, float scale, float (&keep)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float now = peak[half];
#pragma unroll
      for (int n = 0; n < Columns / 8; ++n) now = fmaxf(now, fmaxf(s.v[n][2 * half], s.v[n][2 * half + 1]));
      now = largest_of_four(now);
      const float scaled = Seen || now > low ? now * scale : 0.0F;
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
template <int D, class Act>
__device__ void write_strip(const accumulator<D>& sums, int first, Act* out, std::int64_t stride, std::int64_t valid,
                            std::int64_t head_dim) {
  const bool pairs = head_dim % 2 == 0 && stride % 2 == 0 && reinterpret_cast<std::uintptr_t>(out) % sizeof(two<Act>) == 0;
#pragma unroll
  for (int n = 0; n < D / 8; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first + lane() / 4 + 8 * half, c = n * 8 + lane() % 4 * 2;
      if (row >= valid || c >= head_dim) continue;
      Act* place = out + row * stride + c;
      const two<Act> v{{narrow<Act>(sums.v[n][2 * half]), narrow<Act>(sums.v[n][2 * half + 1])}};
      if (pairs) {
        *reinterpret_cast<two<Act>*>(place) = v;
      } else {
        place[0] = v.at[0];
        if (c + 1 < head_dim) place[1] = v.at[1];
      }
    }
}
template <int D, class Act>
__device__ void write_rows(const sums_of_rows<D, D>& sums, Act* out, std::int64_t stride, std::int64_t valid, std::int64_t head_dim) {
#pragma unroll
  for (int strip = 0; strip < strips<D>; ++strip)
    write_strip(sums[strip], first_row_of_warp<D>() + strip * 16, out, stride, valid, head_dim);
}

template <class F>
void for_head_dim(std::int64_t head_dim, F f) {
  if (head_dim <= 32) return f.template operator()<32>();
  if (head_dim <= 64) return f.template operator()<64>();
  if (head_dim <= 128) return f.template operator()<128>();
  throw device_error("attention on the GPU: head_dim is " + std::to_string(head_dim) + ", at most 128 are there");
}

/// Whether rows can be copied 16 bytes at a time.
template <int D, class Act, class... Pointers>
bool copies_whole(std::int64_t head_dim, std::int64_t strides_or, const Act* first, Pointers... others) {
  return head_dim == D && strides_or * static_cast<std::int64_t>(sizeof(Act)) % 16 == 0 &&
         reinterpret_cast<std::uintptr_t>(first) % 16 == 0 && ((reinterpret_cast<std::uintptr_t>(others) % 16 == 0) && ...);
}

/// In fp32, whether attention.cu's kernels take the heads: these kernels' tiles would not fit the GPU's shared memory.
inline bool wide_heads(const queue& q, std::int64_t head_dim) {
  return head_dim > 128 || q.shared_bytes() < (head_dim > 64 ? 136 : 105) * 1024;
}

inline dim3 grid_of(std::int64_t length, int rows, std::int64_t heads, std::int64_t batch) {
  return {static_cast<unsigned>(ceil_div(length, rows)), static_cast<unsigned>(heads), static_cast<unsigned>(batch)};
}

}  // namespace isthmus::kernels::cuda::tiled
