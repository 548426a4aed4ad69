#include "kernels/cpu/int_product.hpp"

#include "kernels/bf16.hpp"
#include "kernels/cpu/grouped_weights.hpp"
#include "kernels/cpu/traits.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>
#include <utility>

#if !defined(__x86_64__)
namespace isthmus::kernels::cpu {
bool int_products_work() { return false; }
template <class Act>
void int_multiply(team&, weight_format, const std::byte*, std::int64_t, std::int64_t, std::int64_t, const Act*, std::int64_t, Act*,
                  std::int64_t) {
  throw std::logic_error("int_multiply: this CPU has no AVX-512 VNNI");
}
}  // namespace isthmus::kernels::cpu
#else

#include <immintrin.h>

namespace isthmus::kernels::cpu {

bool int_products_work() {
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

}  // namespace isthmus::kernels::cpu

#pragma GCC target("avx512vnni,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,bmi,bmi2,prefer-vector-width=512")
#define ISTHMUS_WIDTH 16

namespace isthmus::kernels::cpu {

namespace {

#include "kernels/cpu/vec.inl"

#include "kernels/cpu/ahead.inl"

constexpr std::int64_t strip_rows = 6, strip_blocks = 2;  // 12 sums of int32 and 12 of fp32 in registers
// A strip of few rows takes one block: memory likes one stream better than two.
constexpr std::int64_t few_rows = 4;
constexpr std::int64_t rows_at_most = 192;     // of a tile: what it reads of x stays in the second-level cache
constexpr std::int64_t tile_bytes = 64 << 10;  // of weights, at least, where there are tiles enough

/// Activations as the products read them: [rows][units][64] steps; for each row and group of 32 the scale, and what the offset of
/// unsigned weights adds too much.
struct rounded_rows {
  std::int8_t* steps;
  float* scales;
  std::int32_t* excess;
  std::int64_t units;
  std::int64_t groups() const { return 2 * units; }
};

/// A group of 32 numbers.
ISTHMUS_INLINE void round_group(vf low, vf high, std::int32_t offset, std::int8_t* steps, float* scale, std::int32_t* excess) {
  const vf largest_of_two = max(reinterpret_cast<vf>(_mm512_abs_ps(reinterpret_cast<__m512>(low))),
                                reinterpret_cast<vf>(_mm512_abs_ps(reinterpret_cast<__m512>(high))));
  const float top = largest(largest_of_two), by = top > 1e-30F ? 127 / top : 0;  // smaller ones count as zero
  const __m512i a = _mm512_cvtps_epi32(reinterpret_cast<__m512>(low * by)), b = _mm512_cvtps_epi32(reinterpret_cast<__m512>(high * by));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(steps), _mm512_cvtsepi32_epi8(a));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(steps + 16), _mm512_cvtsepi32_epi8(b));
  const bool odd = _mm512_cmp_ps_mask(reinterpret_cast<__m512>(low), reinterpret_cast<__m512>(high), _CMP_UNORD_Q) != 0;
  *scale = odd ? std::numeric_limits<float>::quiet_NaN() : top / 127;  // what is not a number stays so
  *excess = -offset * _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
}

template <class Act>
void round_row(const Act* x, std::int64_t in, std::int32_t offset, std::int64_t row, const rounded_rows& to) {
  for (std::int64_t g = 0; g < to.groups(); ++g) {
    const std::int64_t left = in - 32 * g, at = row * to.groups() + g;
    const auto part_of = [&](std::int64_t from) {
      if (left >= from + 16) return load(x + 32 * g + from);
      return left > from ? load_part(x + 32 * g + from, left - from) : vf{};
    };
    round_group(part_of(0), part_of(16), offset, to.steps + 32 * at, to.scales + at, to.excess + at);
  }
}

/// The sums of a group: a strip of rows with the weights of some blocks, which lie `block` bytes apart.
template <bool Four, int Rows, int Blocks>
ISTHMUS_INLINE void group_sums(const std::byte* w, std::int64_t block, const std::int8_t* x, std::int64_t x_row,
                               __m512i (&sum)[Rows][Blocks]) {
  const __m512i low_half = _mm512_set1_epi8(15);
  constexpr int vectors = Four ? 4 : 8, parts = Four ? 2 : 1;
#pragma GCC unroll 8
  for (int v = 0; v < vectors; ++v) {
    __m512i weights[parts][Blocks];
#pragma GCC unroll 4
    for (int j = 0; j < Blocks; ++j) {
      const __m512i bytes = _mm512_load_si512(w + j * block + 64 * v);
      weights[0][j] = Four ? _mm512_and_si512(bytes, low_half) : bytes;
      if constexpr (Four) weights[1][j] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low_half);
    }
#pragma GCC unroll 2
    for (int p = 0; p < parts; ++p)
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        std::int32_t four;
        __builtin_memcpy(&four, x + r * x_row + 4 * (parts * v + p), 4);
        const __m512i steps = _mm512_set1_epi32(four);
#pragma GCC unroll 4
        for (int j = 0; j < Blocks; ++j) sum[r][j] = _mm512_dpbusd_epi32(sum[r][j], weights[p][j], steps);
      }
  }
}

/// One strip of rows with `Blocks` blocks of 16 outputs; `columns` of them are there.
template <bool Four, int Rows, int Blocks, class Act>
__attribute__((noinline)) void strip(const std::byte* w, std::int64_t block, const rounded_rows& x, std::int64_t row, Act* y,
                                     std::int64_t y_stride, std::int64_t columns, weights_ahead ahead) {
  constexpr std::int64_t unit = unit_bytes(Four ? weight_format::int4 : weight_format::int8), group = (unit - scale_bytes) / 2;
  const std::int64_t groups = x.groups(), x_row = 32 * groups;
  const std::int8_t* steps = x.steps + row * x_row;
  const float* scales = x.scales + row * groups;
  const std::int32_t* excess = x.excess + row * groups;
  vf total[Rows][Blocks] = {};
  for (std::int64_t g = 0; g < groups; ++g) {
    ahead.fetch();
    const std::byte* at = w + g / 2 * unit;
    __m512i sum[Rows][Blocks];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int j = 0; j < Blocks; ++j) sum[r][j] = _mm512_set1_epi32(excess[r * groups + g]);
    group_sums<Four, Rows, Blocks>(at + scale_bytes + g % 2 * group, block, steps + 32 * g, x_row, sum);
#pragma GCC unroll 4
    for (int j = 0; j < Blocks; ++j) {
      const vf of_weights = load(reinterpret_cast<const bf16*>(at + j * block + g % 2 * (scale_bytes / 2)));
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
        total[r][j] += reinterpret_cast<vf>(_mm512_cvtepi32_ps(sum[r][j])) * (of_weights * scales[r * groups + g]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int j = 0; j < Blocks; ++j) {
      Act* to = y + r * y_stride + j * block_outputs;
      const std::int64_t left = columns - j * block_outputs;
      if (left >= block_outputs)
        store(to, total[r][j]);
      else if (left > 0)
        store_part(to, total[r][j], left);
    }
}

template <class Act>
using strip_function = void (*)(const std::byte*, std::int64_t, const rounded_rows&, std::int64_t, Act*, std::int64_t, std::int64_t,
                                weights_ahead);
template <bool Four, int Blocks, class Act, int... Rows>
constexpr std::array<strip_function<Act>, sizeof...(Rows)> strips_of(std::integer_sequence<int, Rows...>) {
  return {strip<Four, Rows + 1, Blocks, Act>...};
}
/// By the number of rows less one.
template <bool Four, int Blocks, class Act>
constexpr auto strips = strips_of<Four, Blocks, Act>(std::make_integer_sequence<int, strip_rows>());

/// Rows [row, row + rows) with blocks [first, last) of all; rows are shared out evenly over strips.
template <bool Four, class Act>
void multiply_tile(const std::byte* w, const rounded_rows& x, std::int64_t row, std::int64_t rows, std::int64_t first, std::int64_t last,
                   std::int64_t all, std::int64_t out, Act* y, std::int64_t y_stride) {
  const std::int64_t block = x.units * unit_bytes(Four ? weight_format::int4 : weight_format::int8);
  const std::int64_t n_strips = (rows + strip_rows - 1) / strip_rows;
  const std::int64_t wanted = rows <= few_rows ? 1 : strip_blocks;
  for (std::int64_t b = first, here = 0; b < last; b += here) {
    here = std::min(wanted, last - b);
    const auto& by_rows = here == strip_blocks ? strips<Four, strip_blocks, Act> : strips<Four, 1, Act>;
    for (std::int64_t s = 0; s < n_strips; ++s) {
      const std::int64_t from = rows * s / n_strips, next = rows * (s + 1) / n_strips, behind = std::min(here, all - b - here);
      const std::byte* at = w + b * block;
      by_rows[static_cast<std::size_t>(next - from - 1)](
          at, block, x, row + from, y + (row + from) * y_stride + b * block_outputs, y_stride, out - b * block_outputs,
          n_strips == 1 ? lone_ahead(at, here * block, w + all * block, x.groups())
                        : share_ahead(at + here * block, share_of_strip(behind * block, s, n_strips, x.groups())));
    }
  }
}

}  // namespace

template <class Act>
void int_multiply(team& workers, weight_format format, const std::byte* weights, std::int64_t rows, std::int64_t out, std::int64_t in,
                  const Act* x, std::int64_t x_stride, Act* y, std::int64_t y_stride) {
  const bool four = format == weight_format::int4;
  const std::int64_t units = units_of(in), blocks = blocks_of(out), bytes = block_bytes(in, format);
  std::byte* memory = workers.shared_scratch(static_cast<std::size_t>(rows * units * (unit_inputs + 16)));
  rounded_rows rounded{reinterpret_cast<std::int8_t*>(memory), reinterpret_cast<float*>(memory + rows * units * unit_inputs),
                       reinterpret_cast<std::int32_t*>(memory + rows * units * (unit_inputs + 8)), units};
  // A tile of rows at a time: few rows are not worth waking the team.
  constexpr std::int64_t at_once = 8;
  workers.run((rows + at_once - 1) / at_once, [&](std::int64_t tile, int) {
    for (std::int64_t r = tile * at_once; r < std::min(rows, (tile + 1) * at_once); ++r)
      round_row(x + r * x_stride, in, four ? 8 : 128, r, rounded);
  });
  const std::int64_t row_tiles = (rows + rows_at_most - 1) / rows_at_most;
  const std::int64_t group = std::max<std::int64_t>(strip_blocks, (tile_bytes / bytes + strip_blocks - 1) / strip_blocks * strip_blocks);
  const std::int64_t groups = (blocks + group - 1) / group;
  workers.run(row_tiles * groups, [&](std::int64_t tile, int) {
    const std::int64_t row = rows * (tile / groups) / row_tiles, next = rows * (tile / groups + 1) / row_tiles;
    const std::int64_t first = tile % groups * group, last = std::min(blocks, first + group);
    (four ? multiply_tile<true, Act> : multiply_tile<false, Act>)(weights, rounded, row, next - row, first, last, blocks, out, y, y_stride);
  });
}

}  // namespace isthmus::kernels::cpu
#endif

namespace isthmus::kernels::cpu {
#define ISTHMUS_FOR(Act)                                                                                                                 \
  template void int_multiply(team&, weight_format, const std::byte*, std::int64_t, std::int64_t, std::int64_t, const Act*, std::int64_t, \
                             Act*, std::int64_t);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR
}  // namespace isthmus::kernels::cpu
