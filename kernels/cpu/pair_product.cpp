#include "kernels/cpu/pair_product.hpp"

#include "kernels/bf16.hpp"
#include "kernels/cpu/traits.hpp"

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
void pair_multiply(team&, pair_way, const std::byte*, std::int64_t, std::int64_t, std::int64_t, const Act*, std::int64_t, Act*,
                   std::int64_t) {
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

#include "kernels/cpu/panel_strips.inl"

static_assert(pair_outputs == panel_outputs);

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

/// Pairs of bf16 weights and of inputs, by dot products.
struct dot_step {
  using input = bf16;
  static constexpr std::int64_t inputs = 2;
  template <int Rows>
  static ISTHMUS_INLINE void add(const std::byte* w, const bf16* x, std::int64_t x_stride, vf (&sums)[Rows][panel_vectors]) {
    __m512bh weights[panel_vectors];
#pragma GCC unroll 4
    for (int j = 0; j < panel_vectors; ++j) weights[j] = reinterpret_cast<__m512bh>(_mm512_load_si512(w + 64 * j));
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      std::int32_t two;
      __builtin_memcpy(&two, x + r * x_stride, 4);
      __m512i values = _mm512_set1_epi32(two);
      asm("" : "+v"(values));  // one load for all products with it
#pragma GCC unroll 4
      for (int j = 0; j < panel_vectors; ++j)
        sums[r][j] =
            reinterpret_cast<vf>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sums[r][j]), weights[j], reinterpret_cast<__m512bh>(values)));
    }
  }
};

/// Rows of x as a product reads them, rounded to bf16 if To is, [rows][2 * pairs] with zeros behind the last input.
template <class Act, class To>
void copy_rows(team& workers, const Act* x, std::int64_t x_stride, std::int64_t rows, std::int64_t in, std::int64_t pairs, To* to) {
  constexpr std::int64_t at_once = 8;  // few rows are not worth waking the team
  workers.run((rows + at_once - 1) / at_once, [&](std::int64_t tile, int) {
    for (std::int64_t r = tile * at_once; r < std::min(rows, (tile + 1) * at_once); ++r) {
      To* row = to + r * 2 * pairs;
      over(in, [&](std::int64_t c, auto mask) { mask.put(row + c, mask.get(x + r * x_stride + c)); });
      std::fill(row + in, row + 2 * pairs, To{});
    }
  });
}

template <class Step, class Act>
void multiply_pairs(team& workers, const weight_panels& w, std::int64_t rows, std::int64_t in, const Act* x, std::int64_t x_stride, Act* y,
                    std::int64_t y_stride) {
  using input = typename Step::input;
  if constexpr (std::is_same_v<Act, input>)
    if (in % pair_inputs == 0) return multiply_panels<Step>(workers, w, rows, x, x_stride, y, y_stride);
  const std::int64_t row = 2 * w.steps;
  auto* copy = reinterpret_cast<input*>(workers.shared_scratch(static_cast<std::size_t>(rows * row) * sizeof(input)));
  copy_rows(workers, x, x_stride, rows, in, w.steps, copy);
  multiply_panels<Step>(workers, w, rows, copy, row, y, y_stride);
}

}  // namespace

void pair_weights(team& workers, const float* master, std::int64_t out, std::int64_t in, std::byte* to) {
  const std::int64_t pairs = pairs_of(in);
  workers.run(panels_of(out), [&](std::int64_t panel_index, int) {
    std::byte* panel_at = to + panel_index * panel_bytes(in);
    alignas(64) float square[16 * 16];
    for (std::int64_t p = 0; p < pairs; p += 8)  // a square is 8 pairs deep
      for (std::int64_t j = 0; j < panel_vectors; ++j) {
        turned_square(master, out, in, panel_index * pair_outputs + j * width, 2 * p, square);
        for (std::int64_t k = 0; k < 8; ++k)
          _mm512_store_si512(panel_at + ((p + k) * panel_vectors + j) * 64, pair_up(load(square + 32 * k), load(square + 32 * k + 16)));
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
      for (std::int64_t j = 0; j < panel_vectors; ++j)
        _mm512_store_si512(panel_at + (p * panel_vectors + j) * 64, pair_up(part_of(2 * p, j * width), part_of(2 * p + 1, j * width)));
  });
}

template <class Act>
void pair_multiply(team& workers, pair_way way, const std::byte* weights, std::int64_t rows, std::int64_t out, std::int64_t in,
                   const Act* x, std::int64_t x_stride, Act* y, std::int64_t y_stride) {
  const weight_panels w{weights, panel_bytes(in), pairs_of(in), out, this_cpu().bf16_piece_steps};
  way == pair_way::dots ? multiply_pairs<dot_step>(workers, w, rows, in, x, x_stride, y, y_stride)
                        : multiply_pairs<widened_step>(workers, w, rows, in, x, x_stride, y, y_stride);
}

}  // namespace isthmus::kernels::cpu
#endif

namespace isthmus::kernels::cpu {
#define ISTHMUS_FOR(Act)                                                                                                                   \
  template void pair_multiply(team&, pair_way, const std::byte*, std::int64_t, std::int64_t, std::int64_t, const Act*, std::int64_t, Act*, \
                              std::int64_t);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR
}  // namespace isthmus::kernels::cpu
