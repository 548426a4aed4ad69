#pragma once

#include "kernels/cuda/device.cuh"

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

// Products of tiles on the tensor cores: one warp multiplies strips of 16 rows. Layouts of the operands' registers: PTX ISA, mma.m16n8k16
// for bf16, mma.m16n8k8 for tf32. A product of fp32 numbers is three of tf32, whose mantissa has 11 bits: with x = big + small,
// x y = big big + big small + small big, to about 2^-22.
namespace isthmus::kernels::cuda {

/// Rows of `Columns` numbers in shared memory, 16 bytes between rows so that eight rows of ldmatrix meet all banks once. T:
/// __nv_bfloat16 or float.
template <class T, int Columns>
struct padded_tile {
  static constexpr int in_16_bytes = 16 / sizeof(T), stride = Columns + in_16_bytes;
  static constexpr int step = 2 * in_16_bytes;  // columns that one product sums over
  T* at;

  __device__ const T* place(int row, int column) const { return at + row * stride + column; }
};
template <int Columns>
using bf16_tile = padded_tile<__nv_bfloat16, Columns>;

struct fragment_a {
  std::uint32_t r[4];  // 16 x 16
};

/// A number that tf32 holds, near to x, and the rest.
struct split {
  std::uint32_t big, small;
  split() = default;
  __device__ split(float x) {
    big = (__float_as_uint(x) + 0x1000) & 0xffffe000;
    small = __float_as_uint(x - __uint_as_float(big));
  }
};
struct split_fragment {
  split r[4];  // 16 x 8
};
/// A left operand of one step.
template <class T>
using left_fragment = std::conditional_t<std::is_same_v<T, float>, split_fragment, fragment_a>;

__device__ inline void load_matrices(std::uint32_t (&r)[4], const void* row) {
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

__device__ inline void multiply_add_tf32(float (&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2, std::uint32_t a3,
                                         std::uint32_t b0, std::uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ inline void multiply_add(float (&c)[4], const split_fragment& a, const split& b0, const split& b1) {
  multiply_add_tf32(c, a.r[0].small, a.r[1].small, a.r[2].small, a.r[3].small, b0.big, b1.big);
  multiply_add_tf32(c, a.r[0].big, a.r[1].big, a.r[2].big, a.r[3].big, b0.small, b1.small);
  multiply_add_tf32(c, a.r[0].big, a.r[1].big, a.r[2].big, a.r[3].big, b0.big, b1.big);
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
  /// The columns of step k as the left operand of a further product: 16, rounded to bf16, or eight, as they are.
  template <class T>
  __device__ left_fragment<T> as_operand(int k) const {
    if constexpr (std::is_same_v<T, float>) {
      return {{v[k][0], v[k][2], v[k][1], v[k][3]}};  // columns in the order 0 2 4 6 1 3 5 7: as the lane holds them
    } else {
      const auto pack = [](float x, float y) {
        const __nv_bfloat162 both = __floats2bfloat162_rn(x, y);
        return *reinterpret_cast<const std::uint32_t*>(&both);
      };
      return {{pack(v[2 * k][0], v[2 * k][1]), pack(v[2 * k][2], v[2 * k][3]), pack(v[2 * k + 1][0], v[2 * k + 1][1]),
               pack(v[2 * k + 1][2], v[2 * k + 1][3])}};
    }
  }
};

/// Rows [row, row + 16) of a tile, columns of step k, as a left operand.
template <class T, int Columns>
__device__ left_fragment<T> left_operand(const padded_tile<T, Columns>& m, int row, int k) {
  const int lane = threadIdx.x % warp_size, matrix = lane / 8;
  fragment_a a;
  load_matrices(a.r, m.place(row + matrix % 2 * 8 + lane % 8, k * m.step + matrix / 2 * m.in_16_bytes));
  if constexpr (std::is_same_v<T, float>)
    return {{__uint_as_float(a.r[0]), __uint_as_float(a.r[1]), __uint_as_float(a.r[2]), __uint_as_float(a.r[3])}};
  else
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

__device__ inline std::uint32_t right_operand(std::uint32_t bits, const __nv_bfloat16*) { return bits; }
__device__ inline split right_operand(std::uint32_t bits, const float*) { return __uint_as_float(bits); }

/// Strips of c += those of a times m^T, for step k over m's columns; m: Rows rows from `first` on.
template <int Rows, int Strips, class T, int Columns>
__device__ void add_product_transposed(accumulator<Rows> (&c)[Strips], const left_fragment<T> (&a)[Strips],
                                       const padded_tile<T, Columns>& m, int first, int k) {
  const int lane = threadIdx.x % warp_size, matrix = lane / 8;
#pragma unroll
  for (int n = 0; n < Rows / 16; ++n) {
    std::uint32_t r[4];
    load_matrices(r, m.place(first + n * 16 + matrix / 2 * 8 + lane % 8, k * m.step + matrix % 2 * m.in_16_bytes));
    const auto b0 = right_operand(r[0], m.at), b1 = right_operand(r[1], m.at), b2 = right_operand(r[2], m.at),
               b3 = right_operand(r[3], m.at);
#pragma unroll
    for (int strip = 0; strip < Strips; ++strip) {
      multiply_add(c[strip].v[2 * n], a[strip], b0, b1);
      multiply_add(c[strip].v[2 * n + 1], a[strip], b2, b3);
    }
  }
}
/// Strips of c += those of a times m, for step k over m's rows from `first` on.
template <int Columns, int Strips>
__device__ void add_product(accumulator<Columns> (&c)[Strips], const fragment_a (&a)[Strips], const bf16_tile<Columns>& m, int first,
                            int k) {
  const int lane = threadIdx.x % warp_size, matrix = lane / 8;
#pragma unroll
  for (int n = 0; n < Columns / 16; ++n) {
    std::uint32_t b[4];
    load_matrices_transposed(b, m.place(first + k * 16 + matrix % 2 * 8 + lane % 8, n * 16 + matrix / 2 * 8));
#pragma unroll
    for (int strip = 0; strip < Strips; ++strip) {
      multiply_add(c[strip].v[2 * n], a[strip], b[0], b[1]);
      multiply_add(c[strip].v[2 * n + 1], a[strip], b[2], b[3]);
    }
  }
}
/// The same in fp32, for two steps of eight rows each, in the order 0 2 4 6 1 3 5 7 as accumulator::as_operand has them. A tensor core
/// cuts off what a sum cannot hold; over a long sequence that would add up, so sums start from zero and the plain units add them.
template <int Columns, int Strips>
__device__ void add_product(accumulator<Columns> (&c)[Strips], const split_fragment (&a)[2][Strips], const padded_tile<float, Columns>& m,
                            int first) {
  const int lane = threadIdx.x % warp_size, row = first + lane % 4 * 2;
#pragma unroll
  for (int n = 0; n < Columns / 8; ++n) {
    float sum[Strips][4] = {};
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const split b0 = *m.place(row + k * 8, n * 8 + lane / 4), b1 = *m.place(row + k * 8 + 1, n * 8 + lane / 4);
#pragma unroll
      for (int strip = 0; strip < Strips; ++strip) multiply_add(sum[strip], a[k][strip], b0, b1);
    }
#pragma unroll
    for (int strip = 0; strip < Strips; ++strip)
#pragma unroll
      for (int e = 0; e < 4; ++e) c[strip].v[n][e] += sum[strip][e];
  }
}

/// Starts copying Rows rows of which `valid` are there and `columns` wide; zero elsewhere. `aligned`: columns == Columns, and rows lie
/// at multiples of 16 bytes: then it goes on behind the thread's back until wait_for_copies.
template <int Rows, int Threads, class T, int Columns, class Act>
__device__ void start_copy(const padded_tile<T, Columns>& to, const Act* from, std::int64_t stride, std::int64_t valid,
                           std::int64_t columns, bool aligned) {
  if (aligned) {
    constexpr int pieces = Columns / to.in_16_bytes;
#pragma unroll
    for (int i = threadIdx.x; i < Rows * pieces; i += Threads) {
      const int r = i / pieces, c = i % pieces * to.in_16_bytes;
      const auto place = static_cast<std::uint32_t>(__cvta_generic_to_shared(to.place(r, c)));
      const Act* source = r < valid ? from + r * stride + c : from;
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(source), "r"(r < valid ? 16 : 0));
    }
  } else {
    for (int i = threadIdx.x; i < Rows * Columns; i += Threads) {
      const int r = i / Columns, c = i % Columns;
      reinterpret_cast<Act*>(to.at)[r * to.stride + c] = r < valid && c < columns ? from[r * stride + c] : narrow<Act>(0);
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
