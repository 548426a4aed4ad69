#include "framework/core/hash.hpp"

#include <xxhash.h>

#include <cstdio>
#include <new>

namespace isthmus {

std::string hash128::hex() const {
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(high), static_cast<unsigned long long>(low));
  return text;
}

std::optional<hash128> parse_hash(std::string_view text) {
  if (text.size() != 32) return std::nullopt;
  std::array<std::uint64_t, 2> halves{};
  for (std::size_t i = 0; i < 32; ++i) {
    const char c = text[i];
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return std::nullopt;
    halves[i / 16] = halves[i / 16] << 4 | static_cast<std::uint64_t>(digit);
  }
  return hash128{halves[0], halves[1]};
}

hash128 hash_bytes(std::span<const std::byte> bytes, std::uint64_t seed) {
  const XXH128_hash_t h = XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed);
  return {h.high64, h.low64};
}

struct hash_stream::state {
  XXH3_state_t* xxh = XXH3_createState();
  ~state() { XXH3_freeState(xxh); }
};

hash_stream::hash_stream() : state_(std::make_unique<state>()) {
  if (state_->xxh == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(state_->xxh);
}
hash_stream::~hash_stream() = default;
void hash_stream::add(std::span<const std::byte> bytes) {
  if (!bytes.empty()) XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size());
}
hash128 hash_stream::digest() const {
  const XXH128_hash_t h = XXH3_128bits_digest(state_->xxh);
  return {h.high64, h.low64};
}

hash128 hash_floats(std::span<const float> values, std::uint64_t seed) { return hash_bytes(std::as_bytes(values), seed); }

hash128 hash_chain(const hash128& previous, const hash128& next) {
  const std::array<std::uint64_t, 4> words{previous.high, previous.low, next.high, next.low};
  return hash_bytes(std::as_bytes(std::span(words)));
}

}  // namespace isthmus
