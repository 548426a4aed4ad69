#pragma once

#include <cstdint>
#include <limits>
#include <optional>

namespace isthmus {

/// a * b, or nothing when it does not fit 64 bits: for sizes that a stranger gives.
inline std::optional<std::uint64_t> checked_product(std::uint64_t a, std::uint64_t b) {
  if (b != 0 && a > std::numeric_limits<std::uint64_t>::max() / b) return std::nullopt;
  return a * b;
}

}  // namespace isthmus
