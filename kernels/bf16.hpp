#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace isthmus::kernels {

/// The upper half of an fp32 number, as storage only: arithmetic happens in fp32. Rounds to nearest, ties to even; NaN stays NaN.
struct bf16 {
  std::uint16_t bits;

  bf16() = default;
  explicit bf16(float value) {
    const auto u = std::bit_cast<std::uint32_t>(value);
    const bool nan = (u & 0x7fffffffU) > 0x7f800000U;
    bits = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40U : (u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};
static_assert(sizeof(bf16) == 2 && std::is_trivially_copyable_v<bf16>);

namespace detail {
template <class Act>
struct real_of {
  using type = Act;
};
template <>
struct real_of<bf16> {
  using type = float;
};
}  // namespace detail

/// What goes with activations of type Act: weights, gradients of weights, the residual stream, statistics and states are kept,
/// and all sums are taken, in real<Act>: fp32 for fp32 and bf16; double for double (the reference backend alone, for checks
/// of gradients by central differences).
template <class Act>
using real = typename detail::real_of<Act>::type;

}  // namespace isthmus::kernels
