#pragma once

#include <array>
#include <cstdint>
#include <compare>
#include <span>
#include <string>
#include <cstddef>

namespace isthmus {

/// 128 bits of XXH3: guards against rot and divergence, not against an adversary.
struct hash128 {
  std::uint64_t high = 0, low = 0;
  auto operator<=>(const hash128&) const = default;
  /// 32 lower-case hex digits, high half first.
  std::string hex() const;
};

hash128 hash_bytes(std::span<const std::byte> bytes, std::uint64_t seed = 0);
hash128 hash_floats(std::span<const float> values, std::uint64_t seed = 0);
/// A link in a chain: depends on both and on their order.
hash128 hash_chain(const hash128& previous, const hash128& next);

}  // namespace isthmus
