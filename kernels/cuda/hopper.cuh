#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/tensor_core.cuh"

#include <cuda.h>

#include <cstdint>

// What only Hopper has (compute capability 9.0a): tiles that the copy engine brings, barriers that count its bytes, and products by which
// four warps together multiply 64 rows with a tile that stays in shared memory. PTX ISA: cp.async.bulk.tensor, mbarrier, wgmma.
namespace isthmus::kernels::cuda::hopper {

constexpr int group_threads = 128, group_rows = 64;  // of a group of four warps

__device__ inline std::uint32_t shared_address(const void* p) { return static_cast<std::uint32_t>(__cvta_generic_to_shared(p)); }

/// A barrier in shared memory: a phase ends when `arrivals` threads have arrived and the bytes that they expected have come.
struct barrier {
  std::uint64_t word;

  __device__ void init(int arrivals) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(this)), "r"(arrivals)); }
  __device__ void arrive() { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(this)) : "memory"); }
  __device__ void arrive_expecting(int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(this)), "r"(bytes) : "memory");
  }
  /// Until the phase of this parity has ended; of a new barrier, the one before the first counts as ended (parity 1).
  __device__ void wait(int parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n"
        "}" ::"r"(shared_address(this)),
        "r"(parity)
        : "memory");
  }
};
/// After init, before anybody else uses the barriers.
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

/// A tile in shared memory as the copy engine lays it with a swizzle of 128 bytes: slabs of 64 columns, rows of 128 bytes, at a
/// multiple of 1024.
template <int Rows, int D>
struct swizzled_tile {
  static constexpr int bytes = Rows * D * 2, slab = Rows * 128;
  std::uint32_t word;  // address and distance of slabs, in units of 16 bytes: the lower half of what describes an operand

  __device__ static swizzled_tile at(std::uint32_t address) { return {address / 16 | slab / 16 << 16}; }
  __device__ std::uint32_t address() const { return (word & 0xffff) * 16; }
  /// The tile `count` tiles further on.
  __device__ swizzled_tile operator+(int count) const { return {word + static_cast<std::uint32_t>(count * (bytes / 16))}; }
  /// Rows [row, ...) as an operand, over columns [16 k, 16 k + 16); row: a multiple of 8.
  __device__ std::uint64_t rows(int row, int k) const { return described(row * 8 + (k / 4 * slab + k % 4 * 32) / 16); }
  /// The tile's transpose: its columns as the operand's rows, over rows [16 k, 16 k + 16).
  __device__ std::uint64_t columns(int k) const { return described(k * 16 * 8); }

private:
  /// Upper half: the distance of eight rows, and which swizzle it is.
  __device__ std::uint64_t described(int offset) const {
    return std::uint64_t{1024 / 16 | 1U << 30} << 32 | (word + static_cast<std::uint32_t>(offset));
  }
};

/// Starts copying rows [row, row + Rows) of one head; the barrier gets the tile's bytes. What lies outside of the matrix comes as zero.
template <int Rows, int D>
__device__ void start_tile(const swizzled_tile<Rows, D>& to, const CUtensorMap& from, barrier& b, int head, int row, int batch) {
#pragma unroll
  for (int slab = 0; slab < D / 64; ++slab)
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(
            to.address() + slab * to.slab),
        "l"(&from), "r"(shared_address(&b)), "r"(slab * 64), "r"(head), "r"(row), "r"(batch)
        : "memory");
}

/// Products are started between begin_products and commit_products; their sums and register operands are not touched until
/// wait_for_products has let their group end and settle has been called on the sums.
template <int Columns>
__device__ void settle(accumulator<Columns>& c) {
#pragma unroll
  for (int n = 0; n < Columns / 8; ++n) asm volatile("" : "+f"(c.v[n][0]), "+f"(c.v[n][1]), "+f"(c.v[n][2]), "+f"(c.v[n][3])::"memory");
}
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits until at most `Pending` of the groups committed last are still under way.
template <int Pending>
__device__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

#define ISTHMUS_EIGHT(n) "+f"(c.v[n][0]), "+f"(c.v[n][1]), "+f"(c.v[n][2]), "+f"(c.v[n][3])
#define ISTHMUS_COLUMNS_64                                                                                                      \
  ISTHMUS_EIGHT(0), ISTHMUS_EIGHT(1), ISTHMUS_EIGHT(2), ISTHMUS_EIGHT(3), ISTHMUS_EIGHT(4), ISTHMUS_EIGHT(5), ISTHMUS_EIGHT(6), \
      ISTHMUS_EIGHT(7)
#define ISTHMUS_COLUMNS_128                                                                                                           \
  ISTHMUS_COLUMNS_64, ISTHMUS_EIGHT(8), ISTHMUS_EIGHT(9), ISTHMUS_EIGHT(10), ISTHMUS_EIGHT(11), ISTHMUS_EIGHT(12), ISTHMUS_EIGHT(13), \
      ISTHMUS_EIGHT(14), ISTHMUS_EIGHT(15)
#define ISTHMUS_SUMS_64                                                                                                                 \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, " \
  "%28, %29, %30, %31}"
#define ISTHMUS_SUMS_128                                                                                                                \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, " \
  "%28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, "  \
  "%54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"

/// c = a b^T, or c += a b^T if `add`: 64 rows, one step of 16. a: rows of a tile; b: `Columns` rows of a tile, or if Transposed of its
/// transpose.
template <bool Transposed, int Columns>
__device__ void start_product(accumulator<Columns>& c, std::uint64_t a, std::uint64_t b, bool add) {
  static_assert(Columns == 64 || Columns == 128);
  if constexpr (Columns == 64)
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " ISTHMUS_SUMS_64 ", %32, %33, p, 1, 1, 0, %35;\n}"
        : ISTHMUS_COLUMNS_64
        : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(Transposed));
  else
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " ISTHMUS_SUMS_128 ", %64, %65, p, 1, 1, 0, %67;\n}"
        : ISTHMUS_COLUMNS_128
        : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(Transposed));
}
/// The same, with a in registers.
template <bool Transposed, int Columns>
__device__ void start_product(accumulator<Columns>& c, const fragment_a& a, std::uint64_t b, bool add) {
  static_assert(Columns == 64 || Columns == 128);
  if constexpr (Columns == 64)
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " ISTHMUS_SUMS_64 ", {%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}"
        : ISTHMUS_COLUMNS_64
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "l"(b), "r"(static_cast<int>(add)), "n"(Transposed));
  else
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " ISTHMUS_SUMS_128 ", {%64, %65, %66, %67}, %68, p, 1, 1, %70;\n}"
        : ISTHMUS_COLUMNS_128
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "l"(b), "r"(static_cast<int>(add)), "n"(Transposed));
}
#undef ISTHMUS_EIGHT
#undef ISTHMUS_COLUMNS_64
#undef ISTHMUS_COLUMNS_128
#undef ISTHMUS_SUMS_64
#undef ISTHMUS_SUMS_128

/// c = rows [row, row + 64) of a, times b^T.
template <int RowsA, int RowsB, int D>
__device__ void start_scores(accumulator<RowsB>& c, const swizzled_tile<RowsA, D>& a, int row, const swizzled_tile<RowsB, D>& b) {
#pragma unroll
  for (int k = 0; k < D / 16; ++k) start_product<false>(c, a.rows(row, k), b.rows(0, k), k > 0);
}
/// c = weights m, or c += weights m if `add`.
template <int Rows, int D>
__device__ void start_weighted(accumulator<D>& c, const fragment_a (&weights)[Rows / 16], const swizzled_tile<Rows, D>& m, bool add) {
#pragma unroll
  for (int k = 0; k < Rows / 16; ++k) start_product<true>(c, weights[k], m.columns(k), add || k > 0);
}
/// The sums, rounded, as left operands; here and now, for the sums' registers are the next product's.
template <int Columns>
__device__ void pack(fragment_a (&to)[Columns / 16], const accumulator<Columns>& c) {
#pragma unroll
  for (int k = 0; k < Columns / 16; ++k) {
    to[k] = c.template as_operand<__nv_bfloat16>(k);
    asm volatile("" : "+r"(to[k].r[0]), "+r"(to[k].r[1]), "+r"(to[k].r[2]), "+r"(to[k].r[3])::"memory");
  }
}

}  // namespace isthmus::kernels::cuda::hopper
