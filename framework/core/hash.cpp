#include "framework/core/hash.hpp"

#include <xxhash.h>

#include <cstdio>

namespace isthmus {

std::string hash128::hex() const {
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(high),
                static_cast<unsigned long long>(low));
  return text;
}

hash128 hash_bytes(std::span<const std::byte> bytes, std::uint64_t seed) {
  const XXH128_hash_t h = XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed);
  return {h.high64, h.low64};
}

hash128 hash_floats(std::span<const float> values, std::uint64_t seed) { return hash_bytes(std::as_bytes(values), seed); }

hash128 hash_chain(const hash128& previous, const hash128& next) {
  const std::array<std::uint64_t, 4> words{previous.high, previous.low, next.high, next.low};
  return hash_bytes(std::as_bytes(std::span(words)));
}

}  // namespace isthmus
