#include "kernels/quantise.hpp"

#include <bit>
#include <cmath>

namespace isthmus::kernels {

namespace {

/// To bf16, away from zero: what is divided by it does not leave its range.
bf16 round_away(float x) {
  bf16 up;
  up.bits = static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(x) + 0xffffU) >> 16);
  return up;
}

/// The weight of the largest magnitude, the first of several.
float largest(const float* w, std::int64_t n) {
  float top = 0;
  for (std::int64_t k = 0; k < n; ++k)
    if (std::abs(w[k]) > std::abs(top)) top = w[k];
  return top;
}

/// To the nearest integer, ties to even, then into [low, high]; not a number becomes low.
std::int8_t to_step(float x, float low, float high) {
  constexpr float shift = 12582912.0F;  // 1.5 * 2^23: adding it leaves no digits behind the point
  const float nearest = (x + shift) - shift;
  const float at_least = nearest > low ? nearest : low;
  return static_cast<std::int8_t>(at_least < high ? at_least : high);
}

}  // namespace

quantised_weights quantise(const float* w, std::int64_t n, weight_format format) {
  const bool eight = format == weight_format::int8;
  const float top = largest(w, n), low = eight ? -127.0F : -8.0F, high = eight ? 127.0F : 7.0F;
  quantised_weights q{{}, round_away(eight ? std::abs(top) / 127 : top / -8)};
  const auto scale = static_cast<float>(q.scale);
  if (top != 0)
    for (std::int64_t k = 0; k < n; ++k) q.steps[k] = to_step(w[k] / scale, low, high);
  return q;
}

void through_format(const float* w, std::int64_t n, weight_format format, float* to) {
  if (format == weight_format::bf16) {
    for (std::int64_t k = 0; k < n; ++k) to[k] = static_cast<float>(bf16(w[k]));
    return;
  }
  const quantised_weights q = quantise(w, n, format);
  for (std::int64_t k = 0; k < n; ++k) to[k] = static_cast<float>(q.steps[k]) * static_cast<float>(q.scale);
}

}  // namespace isthmus::kernels
