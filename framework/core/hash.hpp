#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace isthmus {

/// 128 bits of XXH3: guards against rot and divergence, not against an adversary.
struct hash128 {
  std::uint64_t high = 0, low = 0;
  auto operator<=>(const hash128&) const = default;
  /// 32 lower-case hex digits, high half first.
  std::string hex() const;
};

/// The reverse of hex(); nothing when text is anything else than 32 lower-case hex digits.
std::optional<hash128> parse_hash(std::string_view text);

hash128 hash_bytes(std::span<const std::byte> bytes, std::uint64_t seed = 0);
hash128 hash_floats(std::span<const float> values, std::uint64_t seed = 0);
/// The same hash as hash_bytes (seed 0) of all that was added, for bytes that never lie in one place.
class hash_stream {
public:
  hash_stream();
  ~hash_stream();
  hash_stream(const hash_stream&) = delete;
  hash_stream& operator=(const hash_stream&) = delete;
  void add(std::span<const std::byte> bytes);
  hash128 digest() const;

private:
  struct state;
  std::unique_ptr<state> state_;
};

/// A link in a chain: depends on both and on their order.
hash128 hash_chain(const hash128& previous, const hash128& next);

}  // namespace isthmus
