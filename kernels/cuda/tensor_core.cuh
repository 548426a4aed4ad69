#pragma once

#include "kernels/cuda/device.cuh"

#include <cuda_bf16.h>

#include <cstdint>

// Products of bf16 tiles on the tensor cores: one warp multiplies 16 rows. Layouts of the operands' registers: PTX ISA, mma.m16n8k16.
namespace isthmus::kernels::cuda {

/// Rows of `Columns` bf16 numbers in shared memory, 16 bytes between rows so that eight rows of ldmatrix meet all banks once.
template <int Columns>
struct bf16_tile {
  static constexpr int stride = Columns + 8;
  __nv_bfloat16* at;

  __device__ const __nv_bfloat16* place(int row, int column) const { return at + row * stride + column; }
};

struct fragment_a {
  std::uint32_t r[4];  // 16 x 16
};

__device__ inline void load_matrices(std::uint32_t (&r)[4], const __nv_bfloat16* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}
__device__ inline void load_matrices_transposed(std::uint32_t (&r)[4], const __nv_bfloat16* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

/// c += a b.
__device__ inline void multiply_add(float (&c)[4], const fragment_a& a, std::uint32_t b0, std::uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b0), "r"(b1));
}

/// 16 rows of Columns sums as the warp's lanes hold them: v[n][0..1] are row lane / 4, columns 8 n + 2 (lane % 4) + 0..1; v[n][2..3]
/// the same eight rows below.
template <int Columns>
struct accumulator {
  float v[Columns / 8][4];

  __device__ void clear() {
#pragma unroll
    for (auto& n : v)
#pragma unroll
      for (float& x : n) x = 0;
  }
  /// f(row in 0..15, column, value&) for each of the lane's values.
  template <class F>
  __device__ void each(F f) {
    const int g = threadIdx.x % warp_size / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < Columns / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) f(g + i / 2 * 8, n * 8 + t * 2 + i % 2, v[n][i]);
  }
  /// Columns [16 k, 16 k + 16), rounded to bf16, as the left operand of a further product.
  __device__ fragment_a as_operand(int k) const {
    const auto pack = [](float x, float y) {
      const __nv_bfloat162 both = __floats2bfloat162_rn(x, y);
      return *reinterpret_cast<const std::uint32_t*>(&both);
    };
    return {{pack(v[2 * k][0], v[2 * k][1]), pack(v[2 * k][2], v[2 * k][3]), pack(v[2 * k + 1][0], v[2 * k + 1][1]),
             pack(v[2 * k + 1][2], v[2 * k + 1][3])}};
  }
};

/// Rows [row, row + 16) of a tile, columns [16 k, 16 k + 16), as a left operand.
template <int Columns>
__device__ fragment_a left_operand(const bf16_tile<Columns>& m, int row, int k) {
  const int lane = threadIdx.x % warp_size, matrix = lane / 8;
  fragment_a a;
  load_matrices(a.r, m.place(row + matrix % 2 * 8 + lane % 8, k * 16 + matrix / 2 * 8));
  return a;
}
/// The same of the tile's transpose: rows [row, row + 16) are columns of the tile, k runs over its rows.
template <int Columns>
__device__ fragment_a left_operand_transposed(const bf16_tile<Columns>& m, int row, int k) {
  const int lane = threadIdx.x % warp_size, matrix = lane / 8;
  fragment_a a;
  load_matrices_transposed(a.r, m.place(k * 16 + matrix / 2 * 8 + lane % 8, row + matrix % 2 * 8));
  return a;
}

/// c += a m^T for one step k of 16 columns of m; m: Rows rows.
template <int Rows, int Columns>
__device__ void add_product_transposed(accumulator<Rows>& c, const fragment_a& a, const bf16_tile<Columns>& m, int k) {
  const int lane = threadIdx.x % warp_size, matrix = lane / 8;
#pragma unroll
  for (int n = 0; n < Rows / 16; ++n) {
    std::uint32_t b[4];
    load_matrices(b, m.place(n * 16 + matrix / 2 * 8 + lane % 8, k * 16 + matrix % 2 * 8));
    multiply_add(c.v[2 * n], a, b[0], b[1]);
    multiply_add(c.v[2 * n + 1], a, b[2], b[3]);
  }
}
/// c += a m for one step k of 16 rows of m.
template <int Columns>
__device__ void add_product(accumulator<Columns>& c, const fragment_a& a, const bf16_tile<Columns>& m, int k) {
  const int lane = threadIdx.x % warp_size, matrix = lane / 8;
#pragma unroll
  for (int n = 0; n < Columns / 16; ++n) {
    std::uint32_t b[4];
    load_matrices_transposed(b, m.place(k * 16 + matrix % 2 * 8 + lane % 8, n * 16 + matrix / 2 * 8));
    multiply_add(c.v[2 * n], a, b[0], b[1]);
    multiply_add(c.v[2 * n + 1], a, b[2], b[3]);
  }
}

/// Starts copying Rows rows of which `valid` are there and `columns` wide; zero elsewhere. `aligned`: columns == Columns, and rows lie
/// at multiples of 16 bytes: then it goes on behind the thread's back until wait_for_copies.
template <int Rows, int Columns, int Threads>
__device__ void start_copy(const bf16_tile<Columns>& to, const bf16* from, std::int64_t stride, std::int64_t valid, std::int64_t columns,
                           bool aligned) {
  if (aligned) {
    constexpr int pieces = Columns / 8;
#pragma unroll
    for (int i = threadIdx.x; i < Rows * pieces; i += Threads) {
      const int r = i / pieces, c = i % pieces * 8;
      const auto place = static_cast<std::uint32_t>(__cvta_generic_to_shared(to.place(r, c)));
      const bf16* source = r < valid ? from + r * stride + c : from;
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(source), "r"(r < valid ? 16 : 0));
    }
  } else {
    for (int i = threadIdx.x; i < Rows * Columns; i += Threads) {
      const int r = i / Columns, c = i % Columns;
      to.at[r * bf16_tile<Columns>::stride + c] = __ushort_as_bfloat16(r < valid && c < columns ? from[r * stride + c].bits : 0);
    }
  }
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;"); }
/// Waits until at most `Pending` of the groups committed last are still under way.
template <int Pending>
__device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending));
}

}  // namespace isthmus::kernels::cuda
