#include "kernels/cpu/split_product.hpp"

#include "kernels/bf16.hpp"

#include <algorithm>

#if !defined(__x86_64__)
namespace isthmus::kernels::cpu {
bool split_products_work() { return false; }
}  // namespace isthmus::kernels::cpu
#else

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace isthmus::kernels::cpu {

bool split_products_work() {
  static const bool work = [] {
    constexpr unsigned amx_bf16 = 1U << 22, amx_tile = 1U << 24;  // cpuid leaf 7, edx
    constexpr long request_permission = 0x1023, tile_data = 18;   // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) return false;
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & amx_bf16) == 0 || (d & amx_tile) == 0) return false;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }();
  return work;
}

}  // namespace isthmus::kernels::cpu

#pragma GCC target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,bmi,bmi2,prefer-vector-width=512")
#define ISTHMUS_WIDTH 16

namespace isthmus::kernels::cpu {

namespace {

#include "kernels/cpu/vec.inl"

#include "kernels/cpu/square.inl"

/// What the products read: squares of 32 x 32 numbers in parts, [part][half][16 rows][16 pairs] of bf16. A half is a tile: of a left
/// operand 16 rows and 32 of the depth, of a right one 16 columns. Pair p holds depths p and p + 16, in both operands.
constexpr std::int64_t side = 32, tile_bytes = 1024, part_bytes = 2 * tile_bytes, square_bytes = 3 * part_bytes;
constexpr std::int64_t depth_at_most = 24;         // squares a sum: what a tile of rows splits stays in the second-level cache
constexpr std::int64_t rows_at_most = 4 * side;    // of a tile of the team
constexpr std::int64_t gradient_rows = 16 * side;  // of activations, split at once for weight gradients

std::int64_t squares(std::int64_t n) { return (n + side - 1) / side; }

/// Sixteen pairs: a row of the three tiles.
ISTHMUS_INLINE void split_pairs(vf first, vf second, std::byte* to) {
  constexpr std::uint32_t top = 0xffff0000U;
  for (int part = 0; part < 3; ++part, to += part_bytes) {
    const std::uint32_t half_way = part < 2 ? 0x8000U : 0;  // the last part has no more than 8 bits
    const vu a = reinterpret_cast<vu>(first) + half_way, b = reinterpret_cast<vu>(second) + half_way;
    *reinterpret_cast<vu*>(to) = (a >> 16) | (b & top);
    first -= reinterpret_cast<vf>(a & top);
    second -= reinterpret_cast<vf>(b & top);
  }
}

/// Down: depth runs down the rows of what is read, else along them. Turned: the tiles' rows are its columns.
template <bool Down, bool Turned>
ISTHMUS_INLINE void split_square(const float* from, std::int64_t stride, std::byte* to) {
  for (std::int64_t half = 0; half < 2; ++half, to += tile_bytes) {
    const float* first = from + 16 * half * (Down ? 1 : stride);
    const float* second = first + 16 * (Down ? stride : 1);
    std::int64_t row = stride;
    alignas(64) float turned[2][16 * 16];
    if constexpr (Turned) {
      transpose_square(first, stride, turned[0], 16);
      transpose_square(second, stride, turned[1], 16);
      first = turned[0], second = turned[1], row = 16;
    }
    for (std::int64_t i = 0; i < 16; ++i) split_pairs(load(first + i * row), load(second + i * row), to + 64 * i);
  }
}

/// fp32 numbers where they lie: [rows, columns].
struct source {
  const float* at;
  std::int64_t stride, rows, columns;
};

/// The square at (row, column), zeros where the source ends inside it.
template <bool Down, bool Turned>
ISTHMUS_INLINE void split_square_at(const source& s, std::int64_t row, std::int64_t column, std::byte* to) {
  const float* from = s.at + row * s.stride + column;
  if (row + side <= s.rows && column + side <= s.columns) return split_square<Down, Turned>(from, s.stride, to);
  alignas(64) float copy[side * side] = {};
  for (std::int64_t r = 0; r < std::min(side, s.rows - row); ++r)
    over(std::min(side, s.columns - column),
         [&](std::int64_t c, auto mask) { store(copy + r * side + c, mask.get(from + r * s.stride + c)); });
  split_square<Down, Turned>(copy, side, to);
}

/// Rows of fp32 lie too far apart for the CPU to foresee them.
ISTHMUS_INLINE void fetch_square(const source& s, std::int64_t row, std::int64_t column) {
  if (row + side > s.rows || column + side > s.columns) return;
  const float* from = s.at + row * s.stride + column;
  for (std::int64_t r = 0; r < side; ++r, from += s.stride) {
    __builtin_prefetch(from);
    __builtin_prefetch(from + 16);
  }
}

/// Squares [first, first + count) in depth of one panel: 32 rows of a left operand or columns of a right one.
template <bool Down, bool Turned>
void split_panel(const source& s, std::int64_t panel_index, std::int64_t first, std::int64_t count, std::byte* to) {
  for (std::int64_t d = first; d < first + count; ++d, to += square_bytes) {
    fetch_square(s, side * (Down ? d + 1 : panel_index), side * (Down ? panel_index : d + 1));
    split_square_at<Down, Turned>(s, side * (Down ? d : panel_index), side * (Down ? panel_index : d), to);
  }
}

/// The shapes of all eight tiles, 16 rows of 64 bytes, as ldtilecfg reads them; ours for the length of a tile of the team.
class tile_shapes {
public:
  tile_shapes() { _tile_loadconfig(&all); }
  ~tile_shapes() { _tile_release(); }
  tile_shapes(const tile_shapes&) = delete;
  tile_shapes& operator=(const tile_shapes&) = delete;

private:
  struct alignas(64) layout {
    std::uint8_t palette, start_row, reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
  };
  static constexpr layout all{1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
};

// Tiles 0 to 3 are the sums, 4 and 5 hold one part of 32 rows on the left, 6 and 7 one of 32 columns on the right. The intrinsics want
// the tiles' numbers as written.
ISTHMUS_INLINE void left_0(const std::byte* part) { _tile_loadd(4, part, 64); }
ISTHMUS_INLINE void left_1(const std::byte* part) { _tile_loadd(5, part + tile_bytes, 64); }
ISTHMUS_INLINE void right_0(const std::byte* part) { _tile_loadd(6, part, 64); }
ISTHMUS_INLINE void right_1(const std::byte* part) { _tile_loadd(7, part + tile_bytes, 64); }
ISTHMUS_INLINE void sum_00() { _tile_dpbf16ps(0, 4, 6); }
ISTHMUS_INLINE void sum_01() { _tile_dpbf16ps(1, 4, 7); }
ISTHMUS_INLINE void sum_10() { _tile_dpbf16ps(2, 5, 6); }
ISTHMUS_INLINE void sum_11() { _tile_dpbf16ps(3, 5, 7); }

/// The four sums with the parts that are loaded, then others on one side, each tile as soon as its last use has been issued.
ISTHMUS_INLINE void sum_then_left(const std::byte* next) { sum_00(), sum_01(), left_0(next), sum_10(), sum_11(), left_1(next); }
ISTHMUS_INLINE void sum_then_right(const std::byte* next) { sum_00(), sum_10(), right_0(next), sum_01(), sum_11(), right_1(next); }

/// The small products over `depth` squares, then the large one on top of them.
void sum_products(const std::byte* left, const std::byte* right, std::int64_t depth) {
  asm volatile("" ::: "memory");  // tile loads do not tell the compiler what they read
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const std::byte *a = left, *b = right;
  for (std::int64_t d = 0; d < depth; ++d, a += square_bytes, b += square_bytes) {
    const std::byte *a2 = a + part_bytes, *a3 = a2 + part_bytes, *b2 = b + part_bytes, *b3 = b2 + part_bytes;
    left_0(a), right_0(b3), left_1(a), right_1(b3);
    sum_then_right(b2);  // after a1 b3
    sum_then_left(a2);   // after a1 b2
    sum_then_right(b);   // after a2 b2
    sum_then_left(a3);   // after a2 b1
    sum_00(), sum_10(), sum_01(), sum_11();
  }
  a = left, b = right;
  for (std::int64_t d = 0; d < depth; ++d, a += square_bytes, b += square_bytes) {
    left_0(a), right_0(b), sum_00(), left_1(a), sum_10();
    right_1(b), sum_01(), sum_11();
  }
}

ISTHMUS_INLINE void store_sums(float* c, std::int64_t row) {
  _tile_stored(0, c, row * 4);
  _tile_stored(1, c + 16, row * 4);
  _tile_stored(2, c + 16 * row, row * 4);
  _tile_stored(3, c + 16 * row + 16, row * 4);
}

ISTHMUS_INLINE void fetch_sums(const float* c, std::int64_t row, std::int64_t m) {
  for (std::int64_t r = 0; r < m; ++r, c += row) {
    __builtin_prefetch(c, 1);
    __builtin_prefetch(c + 16, 1);
  }
}

/// c [m, n] (+)= the sums; m, n at most 32.
void write_sums(float* c, std::int64_t row, std::int64_t m, std::int64_t n, bool adds) {
  if (!adds && m == side && n == side) return store_sums(c, row);
  alignas(64) float sums[side * side];
  store_sums(sums, side);
  for (std::int64_t r = 0; r < m; ++r)
    over(n, [&](std::int64_t i, auto mask) {
      float* at = c + r * row + i;
      const vf sum = load(sums + r * side + i);
      mask.put(at, adds ? mask.get(at) + sum : sum);
    });
}

/// c [m, n] (+)= a b. A tile of the team splits its rows of a; LeftTransposed: a is stored [k, m].
template <bool LeftTransposed>
void multiply(team& workers, std::int64_t m, std::int64_t n, std::int64_t k, const source& a, const std::byte* b, float* c,
              std::int64_t c_row, bool adds) {
  const std::int64_t deep = squares(k), rounds = std::max<std::int64_t>(1, (deep + depth_at_most - 1) / depth_at_most);
  const std::int64_t rows = std::min(rows_at_most, round_up((m + 7) / 8, side));  // enough tiles for stealing to even things out
  workers.run((m + rows - 1) / rows, [&](std::int64_t tile, int worker) {
    const std::int64_t first_panel = tile * rows / side, panels = squares(std::min(m - tile * rows, rows));
    const std::int64_t step = (deep + rounds - 1) / rounds;
    std::byte* parts = workers.scratch(worker, static_cast<std::size_t>(panels * step * square_bytes));
    const tile_shapes shapes;
    for (std::int64_t d = 0; d < deep; d += step) {
      const std::int64_t depth = std::min(step, deep - d);
      for (std::int64_t i = 0; i < panels; ++i)
        split_panel<LeftTransposed, LeftTransposed>(a, first_panel + i, d, depth, parts + i * depth * square_bytes);
      for (std::int64_t j = 0; j < n; j += side)
        for (std::int64_t i = 0; i < panels; ++i) {
          const std::int64_t row = (first_panel + i) * side;
          fetch_sums(c + row * c_row + j, c_row, std::min(side, m - row));
          sum_products(parts + i * depth * square_bytes, b + (j / side * deep + d) * square_bytes, depth);
          write_sums(c + row * c_row + j, c_row, std::min(side, m - row), std::min(side, n - j), adds || d > 0);
        }
    }
  });
}

}  // namespace

std::size_t split_bytes(std::int64_t n, std::int64_t k) { return static_cast<std::size_t>(squares(n) * squares(k) * square_bytes); }

void split_right(team& workers, const float* w, std::int64_t stride, bool transposed, std::int64_t n, std::int64_t k, std::byte* b) {
  const std::int64_t deep = squares(k);
  workers.run(squares(n), [&](std::int64_t tile, int) {
    std::byte* to = b + tile * deep * square_bytes;
    if (transposed)
      split_panel<false, true>({w, stride, n, k}, tile, 0, deep, to);
    else
      split_panel<true, false>({w, stride, k, n}, tile, 0, deep, to);
  });
}

void split_multiply(team& workers, std::int64_t rows, std::int64_t n, std::int64_t k, const float* x, std::int64_t x_stride,
                    const std::byte* b, float* y, std::int64_t y_stride) {
  multiply<false>(workers, rows, n, k, {x, x_stride, rows, k}, b, y, y_stride, false);
}

std::size_t split_backward_bytes(std::int64_t rows, std::int64_t in) { return split_bytes(in, std::min(rows, gradient_rows)); }

void split_backward_weight(team& workers, std::int64_t rows, std::int64_t out, std::int64_t in, const float* dy, std::int64_t dy_stride,
                           const float* x, std::int64_t x_stride, std::byte* memory, float* dw) {
  const std::int64_t rounds = std::max<std::int64_t>(1, (rows + gradient_rows - 1) / gradient_rows);
  const std::int64_t step = round_up((rows + rounds - 1) / rounds, side);
  for (std::int64_t r = 0; r < rows; r += step) {
    const std::int64_t here = std::min(step, rows - r);
    split_right(workers, x + r * x_stride, x_stride, false, in, here, memory);
    multiply<true>(workers, out, in, here, {dy + r * dy_stride, dy_stride, here, out}, memory, dw, in, true);
  }
}

}  // namespace isthmus::kernels::cpu

#endif
