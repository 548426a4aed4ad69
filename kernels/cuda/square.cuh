#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/tensor_core.cuh"

#include <cstdint>
#include <type_traits>

// Products of 64 x 64 squares by a block of 128 threads: on the tensor cores where the squares are bf16, on the plain units in fp32.
namespace isthmus::kernels::cuda {

constexpr int side = 64, square_threads = 128;

/// A square in shared memory.
template <class Act>
struct square;
template <>
struct square<bf16> {
  bf16_tile<side> tile;
  static constexpr std::size_t bytes = side * bf16_tile<side>::stride * sizeof(bf16);
  __device__ explicit square(std::byte* memory) : tile{reinterpret_cast<__nv_bfloat16*>(memory)} {}
  __device__ void set(int r, int c, float v) const { tile.at[r * bf16_tile<side>::stride + c] = __float2bfloat16_rn(v); }
  __device__ void set4(int r, int c, float4 v) const { store4(reinterpret_cast<bf16*>(tile.at + r * bf16_tile<side>::stride + c), v); }
  __device__ float get(int r, int c) const { return __bfloat162float(tile.at[r * bf16_tile<side>::stride + c]); }
};
template <>
struct square<float> {
  static constexpr int stride = side + 4;
  static constexpr std::size_t bytes = side * stride * sizeof(float);
  float* at;
  __device__ explicit square(std::byte* memory) : at(reinterpret_cast<float*>(memory)) {}
  __device__ void set(int r, int c, float v) const { at[r * stride + c] = v; }
  __device__ void set4(int r, int c, float4 v) const { store4(at + r * stride + c, v); }
  __device__ float get(int r, int c) const { return at[r * stride + c]; }
};

/// A square of sums in the block's registers. add_nt: += a b^T, add_nn: += a b, add_tn: += a^T b. each(f): f(row, column, value&) for
/// the thread's values; with(other, f): f(row, column, value&, the other's value). row_sums(out, f): out[row] += the sum over the columns
/// of f(row, column, value); the rows of a warp are its own. write(out, stride, rows, columns, f): out[row * stride + column] = f(row,
/// column, value) where row < rows and column < columns. column_sums(parts): parts[warp][column] = the sum over the warp's rows.
template <class Act>
struct sums;

template <>
struct sums<bf16> {
  accumulator<side> own[1];
  __device__ static int first_row() { return threadIdx.x / warp_size * 16; }
  __device__ void clear() { own[0].clear(); }
  template <class F>
  __device__ void each(F f) {
    own[0].each([&](int r, int c, float& v) { f(first_row() + r, c, v); });
  }
  template <class F>
  __device__ void with(const sums& other, F f) {
    const int g = first_row() + threadIdx.x % warp_size / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < side / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) f(g + i / 2 * 8, n * 8 + t * 2 + i % 2, own[0].v[n][i], other.own[0].v[n][i]);
  }
  template <class To, class F>
  __device__ void write(To* out, std::int64_t stride, std::int64_t rows, std::int64_t columns, F f) {
    const int g = first_row() + threadIdx.x % warp_size / 4, t = threadIdx.x % 4;
    const bool pairs = columns % 2 == 0 &&
                       (reinterpret_cast<std::uintptr_t>(out) | static_cast<std::uintptr_t>(stride) * sizeof(To)) % sizeof(two<To>) == 0;
#pragma unroll
    for (int n = 0; n < side / 8; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int r = g + half * 8, c = n * 8 + t * 2;
        if (r >= rows || c >= columns) continue;
        const two<To> v{{narrow<To>(f(r, c, own[0].v[n][2 * half])), narrow<To>(f(r, c + 1, own[0].v[n][2 * half + 1]))}};
        if (pairs) {
          *reinterpret_cast<two<To>*>(out + r * stride + c) = v;
        } else {
          out[r * stride + c] = v.at[0];
          if (c + 1 < columns) out[r * stride + c + 1] = v.at[1];
        }
      }
  }
  __device__ void column_sums(float (*parts)[side]) const {
#pragma unroll
    for (int n = 0; n < side / 8; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float sum = own[0].v[n][i] + own[0].v[n][i + 2];
        for (int step = 4; step < warp_size; step *= 2) sum += __shfl_xor_sync(~0U, sum, step);
        if (threadIdx.x % warp_size < 4) parts[threadIdx.x / warp_size][n * 8 + threadIdx.x % 4 * 2 + i] = sum;
      }
  }
  __device__ void add_nt(const square<bf16>& a, const square<bf16>& b) {
#pragma unroll
    for (int k = 0; k < side / 16; ++k) add_product_transposed(own, {left_operand(a.tile, first_row(), k)}, b.tile, 0, k);
  }
  __device__ void add_nn(const square<bf16>& a, const square<bf16>& b) {
#pragma unroll
    for (int k = 0; k < side / 16; ++k) add_product(own, {left_operand(a.tile, first_row(), k)}, b.tile, 0, k);
  }
  __device__ void add_tn(const square<bf16>& a, const square<bf16>& b) {
#pragma unroll
    for (int k = 0; k < side / 16; ++k) add_product(own, {left_operand_transposed(a.tile, first_row(), k)}, b.tile, 0, k);
  }
  template <class F>
  __device__ void row_sums(float* out, F f) {
    float sum[2] = {};
    own[0].each([&](int r, int c, float& v) { sum[r / 8] += f(first_row() + r, c, v); });
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      for (int step = 1; step <= 2; step *= 2) sum[e] += __shfl_xor_sync(~0U, sum[e], step);
      if (threadIdx.x % 4 == 0) out[first_row() + threadIdx.x % warp_size / 4 + 8 * e] += sum[e];
    }
  }
};

template <>
struct sums<float> {
  static constexpr int high = 4, across = 8;  // the thread's rows 4 y + i, columns x + 8 j
  float v[high][across];
  __device__ static int row() { return static_cast<int>(threadIdx.x) / across * high; }
  __device__ static int column() { return static_cast<int>(threadIdx.x) % across; }
  __device__ void clear() {
#pragma unroll
    for (auto& r : v)
#pragma unroll
      for (float& x : r) x = 0;
  }
  template <class F>
  __device__ void each(F f) {
#pragma unroll
    for (int i = 0; i < high; ++i)
#pragma unroll
      for (int j = 0; j < across; ++j) f(row() + i, column() + across * j, v[i][j]);
  }
  template <class F>
  __device__ void with(const sums& other, F f) {
#pragma unroll
    for (int i = 0; i < high; ++i)
#pragma unroll
      for (int j = 0; j < across; ++j) f(row() + i, column() + across * j, v[i][j], other.v[i][j]);
  }
  template <class To, class F>
  __device__ void write(To* out, std::int64_t stride, std::int64_t rows, std::int64_t columns, F f) {
    each([&](int r, int c, float& x) {
      if (r < rows && c < columns) out[r * stride + c] = narrow<To>(f(r, c, x));
    });
  }
  __device__ void column_sums(float (*parts)[side]) const {
#pragma unroll
    for (int j = 0; j < across; ++j) {
      float sum = (v[0][j] + v[1][j]) + (v[2][j] + v[3][j]);
      for (int step = across; step < warp_size; step *= 2) sum += __shfl_xor_sync(~0U, sum, step);
      if (threadIdx.x % warp_size < across) parts[threadIdx.x / warp_size][column() + across * j] = sum;
    }
  }
  /// a and b by row, column strides: a(m, k) = a.at[m * am + k * ak], b(k, n) = b.at[k * bk + n * bn].
  __device__ void add(const float* a, int am, int ak, const float* b, int bk, int bn) {
#pragma unroll 4
    for (int k = 0; k < side; ++k) {
      float left[high], right[across];
#pragma unroll
      for (int i = 0; i < high; ++i) left[i] = a[(row() + i) * am + k * ak];
#pragma unroll
      for (int j = 0; j < across; ++j) right[j] = b[k * bk + (column() + across * j) * bn];
#pragma unroll
      for (int i = 0; i < high; ++i)
#pragma unroll
        for (int j = 0; j < across; ++j) v[i][j] += left[i] * right[j];
    }
  }
  __device__ void add_nt(const square<float>& a, const square<float>& b) { add(a.at, a.stride, 1, b.at, 1, b.stride); }
  __device__ void add_nn(const square<float>& a, const square<float>& b) { add(a.at, a.stride, 1, b.at, b.stride, 1); }
  __device__ void add_tn(const square<float>& a, const square<float>& b) { add(a.at, 1, a.stride, b.at, b.stride, 1); }
  template <class F>
  __device__ void row_sums(float* out, F f) {
#pragma unroll
    for (int i = 0; i < high; ++i) {
      float sum = 0;
#pragma unroll
      for (int j = 0; j < across; ++j) sum += f(row() + i, column() + across * j, v[i][j]);
      for (int step = 1; step < across; step *= 2) sum += __shfl_xor_sync(~0U, sum, step);
      if (column() == 0) out[row() + i] += sum;
    }
  }
};

/// Fills a square from global memory: rows [0, rows) and columns [0, columns) are there, zero elsewhere; row r times scale[r] if given.
/// `fours`: columns are read four at a time, which their place allows.
template <class Act, class From>
__device__ void fill(const square<Act>& to, const From* from, std::int64_t stride, std::int64_t rows, std::int64_t columns, bool fours,
                     const float* scale = nullptr) {
  if constexpr (std::is_same_v<Act, bf16> && std::is_same_v<From, bf16>) {
    const auto place = reinterpret_cast<std::uintptr_t>(from) | static_cast<std::uintptr_t>(stride) * sizeof(From);
    if (!scale && columns >= side && place % sizeof(uint4) == 0) {  // as it is, eight numbers at a time
#pragma unroll
      for (int i = threadIdx.x * 8; i < side * side; i += square_threads * 8) {
        const int r = i / side, c = i % side;
        *reinterpret_cast<uint4*>(to.tile.at + r * bf16_tile<side>::stride + c) =
            r < rows ? *reinterpret_cast<const uint4*>(from + r * stride + c) : uint4{0, 0, 0, 0};
      }
      return;
    }
  }
  if (fours && columns >= side) {
#pragma unroll
    for (int i = threadIdx.x * 4; i < side * side; i += square_threads * 4) {
      const int r = i / side, c = i % side;
      float4 v = r < rows ? load4(from + r * stride + c) : float4{0, 0, 0, 0};
      if (scale) v = {v.x * scale[r], v.y * scale[r], v.z * scale[r], v.w * scale[r]};
      to.set4(r, c, v);
    }
  } else {
    for (int i = threadIdx.x; i < side * side; i += square_threads) {
      const int r = i / side, c = i % side;
      const float v = r < rows && c < columns ? wide(from[r * stride + c]) : 0.0F;
      to.set(r, c, scale ? v * scale[r] : v);
    }
  }
}

}  // namespace isthmus::kernels::cuda
