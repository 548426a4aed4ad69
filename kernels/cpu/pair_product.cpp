#include "kernels/cpu/pair_product.hpp"

#include "kernels/bf16.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

namespace isthmus::kernels::cpu {

namespace {

std::int64_t panels_of(std::int64_t out) { return (out + pair_outputs - 1) / pair_outputs; }
std::int64_t pairs_of(std::int64_t in) { return (in + pair_inputs - 1) / pair_inputs * (pair_inputs / 2); }
std::int64_t panel_bytes(std::int64_t in) { return pairs_of(in) * pair_outputs * 4; }

}  // namespace

std::size_t pair_bytes(std::int64_t out, std::int64_t in) { return static_cast<std::size_t>(panels_of(out) * panel_bytes(in)); }

}  // namespace isthmus::kernels::cpu

#if !defined(__x86_64__)
namespace isthmus::kernels::cpu {
bool pair_products_work() { return false; }
void pair_weights(team&, const float*, std::int64_t, std::int64_t, std::byte*) {
  throw std::logic_error("pair_weights: this CPU has no AVX-512 BF16");
}
void pair_weights_transposed(team&, const float*, std::int64_t, std::int64_t, std::byte*) {
  throw std::logic_error("pair_weights_transposed: this CPU has no AVX-512 BF16");
}
template <class Act>
void pair_multiply(team&, const std::byte*, std::int64_t, std::int64_t, std::int64_t, const Act*, std::int64_t, Act*, std::int64_t) {
  throw std::logic_error("pair_multiply: this CPU has no AVX-512 BF16");
}
}  // namespace isthmus::kernels::cpu
#else

#include <immintrin.h>

namespace isthmus::kernels::cpu {

bool pair_products_work() {
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq");
}

}  // namespace isthmus::kernels::cpu

#pragma GCC target("avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,bmi,bmi2,prefer-vector-width=512")
#define ISTHMUS_WIDTH 16

namespace isthmus::kernels::cpu {

namespace {

#include "kernels/cpu/vec.inl"

#include "kernels/cpu/square.inl"

#include "kernels/cpu/ahead.inl"

constexpr std::int64_t vectors = pair_outputs / width;  // of outputs in a panel
constexpr std::int64_t tile_bytes = 64 << 10;           // of weights, at least, where there are tiles enough

/// Inputs [i, i + 16) of outputs [o, o + 16), [input][output]; zeros where W ends inside.
void turned_square(const float* master, std::int64_t out, std::int64_t in, std::int64_t o, std::int64_t i, float* to) {
  const float* from = master + o * in + i;
  if (o + 16 <= out && i + 16 <= in) return transpose_square(from, in, to, 16);
  for (std::int64_t k = 0; k < 16 * 16; ++k) {
    const std::int64_t input = k / 16, output = k % 16;
    to[k] = o + output < out && i + input < in ? from[output * in + input] : 0;
  }
}

ISTHMUS_INLINE __m512i pair_up(vf first, vf second) {
  const auto low = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(round_to_bf16(first)));
  const auto high = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(round_to_bf16(second)));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/// Rows of x in bf16, [rows][2 * pairs] with zeros behind the last input.
template <class Act>
void round_rows(const Act* x, std::int64_t x_stride, std::int64_t rows, std::int64_t in, std::int64_t pairs, bf16* to) {
  for (std::int64_t r = 0; r < rows; ++r) {
    bf16* row = to + r * 2 * pairs;
    over(in, [&](std::int64_t c, auto mask) { mask.put(row + c, mask.get(x + r * x_stride + c)); });
    std::fill(row + in, row + 2 * pairs, bf16{});
  }
}

constexpr std::int64_t strip_rows = 6;                  // whose sums fit the registers beside a row of weights
constexpr std::int64_t rows_at_once = 10 * strip_rows;  // of a panel, whose sums wait in the first-level cache
constexpr std::int64_t pairs_at_once = 1024;            // of a panel: they stay in the second-level cache beside as many of what comes next

/// Some rows, at most strip_rows, and a panel's weights from some depth on.
template <class Act>
struct strip {
  const std::byte* w;
  std::int64_t pairs;
  const bf16* x;
  std::int64_t x_stride;
  float* sums;  // [rows, pair_outputs]: what came before, where `onto`, and unless y is given what waits for the rest
  bool onto;
  Act* y;
  std::int64_t y_stride, columns;  // of its outputs so many are there
  weights_ahead ahead;
};

template <int Rows, class Act>
__attribute__((noinline)) void multiply_strip(const strip<Act>& of) {
  __m512 sums[Rows][vectors] = {};
  if (of.onto)
    for (int r = 0; r < Rows; ++r)
      for (int j = 0; j < vectors; ++j) sums[r][j] = _mm512_load_ps(of.sums + r * pair_outputs + j * width);
  const std::byte* w = of.w;
  const bf16* x = of.x;
  const std::int64_t pairs = of.pairs, x_stride = of.x_stride;
  weights_ahead ahead = of.ahead;
  for (std::int64_t p = 0; p < pairs; ++p, w += pair_outputs * 4) {
    ahead.fetch();
    if (!ahead.lone) fetch_near<pair_outputs * 4>(w);
    __m512bh weights[vectors];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) weights[j] = reinterpret_cast<__m512bh>(_mm512_load_si512(w + 64 * j));
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      std::int32_t two;
      __builtin_memcpy(&two, x + r * x_stride + 2 * p, 4);
      __m512i values = _mm512_set1_epi32(two);
      asm("" : "+v"(values));  // one load for all products with it
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) sums[r][j] = _mm512_dpbf16_ps(sums[r][j], weights[j], reinterpret_cast<__m512bh>(values));
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int j = 0; j < vectors; ++j) {
      const std::int64_t left = of.columns - j * width;
      if (!of.y)
        _mm512_store_ps(of.sums + r * pair_outputs + j * width, sums[r][j]);
      else if (left >= width)
        store(of.y + r * of.y_stride + j * width, reinterpret_cast<vf>(sums[r][j]));
      else if (left > 0)
        store_part(of.y + r * of.y_stride + j * width, reinterpret_cast<vf>(sums[r][j]), left);
    }
}

template <class Act, int... Rows>
constexpr auto strips_of(std::integer_sequence<int, Rows...>) {
  return std::array<void (*)(const strip<Act>&), sizeof...(Rows)>{multiply_strip<Rows + 1, Act>...};
}

/// One panel times all rows, at most rows_at_once, which are shared out evenly over strips. next_bytes: of the panel behind it.
template <class Act>
void multiply_panel(const std::byte* w, std::int64_t pairs, const bf16* x, std::int64_t x_stride, std::int64_t rows, Act* y,
                    std::int64_t y_stride, std::int64_t columns, std::int64_t next_bytes) {
  static constexpr auto strips = strips_of<Act>(std::make_integer_sequence<int, strip_rows>());
  constexpr std::int64_t pair_row = pair_outputs * 4;
  alignas(64) float sums[rows_at_once * pair_outputs];
  const std::int64_t count = (rows + strip_rows - 1) / strip_rows;
  for (std::int64_t from = 0; from < pairs; from += pairs_at_once) {
    const std::int64_t here = std::min(pairs - from, pairs_at_once), end = from + here, left = (pairs - end) * pair_row;
    const std::int64_t ahead = std::min(left > 0 ? left : next_bytes, pairs_at_once * pair_row);
    for (std::int64_t s = 0, row = 0; s < count; ++s) {
      const std::int64_t next = rows * (s + 1) / count;
      strips[static_cast<std::size_t>(next - row - 1)]({w + from * pair_row, here, x + row * x_stride + 2 * from, x_stride,
                                                        sums + row * pair_outputs, from > 0, left > 0 ? nullptr : y + row * y_stride,
                                                        y_stride, columns, share_ahead(w + end * pair_row, ahead, s, count, here)});
      row = next;
    }
  }
}

}  // namespace

void pair_weights(team& workers, const float* master, std::int64_t out, std::int64_t in, std::byte* to) {
  const std::int64_t pairs = pairs_of(in);
  workers.run(panels_of(out), [&](std::int64_t panel_index, int) {
    std::byte* panel_at = to + panel_index * panel_bytes(in);
    alignas(64) float square[16 * 16];
    for (std::int64_t p = 0; p < pairs; p += 8)  // a square is 8 pairs deep
      for (std::int64_t j = 0; j < vectors; ++j) {
        turned_square(master, out, in, panel_index * pair_outputs + j * width, 2 * p, square);
        for (std::int64_t k = 0; k < 8; ++k)
          _mm512_store_si512(panel_at + ((p + k) * vectors + j) * 64, pair_up(load(square + 32 * k), load(square + 32 * k + 16)));
      }
  });
}

void pair_weights_transposed(team& workers, const float* master, std::int64_t out, std::int64_t in, std::byte* to) {
  const std::int64_t pairs = pairs_of(out);
  workers.run(panels_of(in), [&](std::int64_t panel_index, int) {
    const std::int64_t first = panel_index * pair_outputs;
    std::byte* panel_at = to + panel_index * panel_bytes(out);
    // W[row, first + column] onward, zeros outside.
    const auto part_of = [&](std::int64_t row, std::int64_t column) {
      const std::int64_t left = row < out ? in - first - column : 0;
      const float* at = master + row * in + first + column;
      return left >= width ? load(at) : left > 0 ? load_part(at, left) : vf{};
    };
    for (std::int64_t p = 0; p < pairs; ++p)
      for (std::int64_t j = 0; j < vectors; ++j)
        _mm512_store_si512(panel_at + (p * vectors + j) * 64, pair_up(part_of(2 * p, j * width), part_of(2 * p + 1, j * width)));
  });
}

template <class Act>
void pair_multiply(team& workers, const std::byte* weights, std::int64_t rows, std::int64_t out, std::int64_t in, const Act* x,
                   std::int64_t x_stride, Act* y, std::int64_t y_stride) {
  const std::int64_t pairs = pairs_of(in), panels = panels_of(out), bytes = panel_bytes(in);
  const bf16* pairs_of_x = nullptr;
  std::int64_t row = x_stride;
  if constexpr (std::is_same_v<Act, bf16>)
    if (in % pair_inputs == 0) pairs_of_x = x;
  if (!pairs_of_x) {
    row = 2 * pairs;
    auto* rounded = reinterpret_cast<bf16*>(workers.shared_scratch(static_cast<std::size_t>(rows * pairs * 4)));
    round_rows(x, x_stride, rows, in, pairs, rounded);
    pairs_of_x = rounded;
  }
  const std::int64_t group = std::max<std::int64_t>(1, tile_bytes / bytes);
  workers.run((panels + group - 1) / group, [&](std::int64_t tile, int) {
    for (std::int64_t i = tile * group; i < std::min(panels, (tile + 1) * group); ++i)
      for (std::int64_t r = 0; r < rows; r += rows_at_once)
        multiply_panel(weights + i * bytes, pairs, pairs_of_x + r * row, row, std::min(rows - r, rows_at_once),
                       y + r * y_stride + i * pair_outputs, y_stride, out - i * pair_outputs, i + 1 < panels ? bytes : 0);
  });
}

}  // namespace isthmus::kernels::cpu
#endif

namespace isthmus::kernels::cpu {
#define ISTHMUS_FOR(Act)                                                                                                         \
  template void pair_multiply(team&, const std::byte*, std::int64_t, std::int64_t, std::int64_t, const Act*, std::int64_t, Act*, \
                              std::int64_t);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR
}  // namespace isthmus::kernels::cpu
