#pragma once

#include "framework/transport/identity.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace isthmus {

/// What both ends of a handshake have said so far, as a hash, and the keys that follow from it: the symmetric state of the Noise
/// framework (revision 34, section 5.2) with BLAKE2b, keyed in place of HKDF, and ChaCha20-Poly1305 (docs/wire.md).
class transcript {
public:
  static constexpr std::size_t tag_bytes = 16;
  explicit transcript(std::string_view protocol);

  void add(std::span<const std::byte> said);
  /// A shared secret: what is sealed and derived from here on needs it.
  void mix(const secret& shared);
  /// Appends the sealed bytes (16 longer) to out, and adds them.
  void seal(std::span<const std::byte> plain, std::vector<std::byte>& out);
  /// plain.size() + 16 bytes into plain, and adds them; false when they do not open: the transcript is of no use then.
  [[nodiscard]] bool open(std::span<const std::byte> sealed, std::span<std::byte> plain);
  /// From here on derive() may be asked, about what was mixed and said so far.
  void split() { split_ = hash_; }
  /// A key that only those have who share all secrets and had said and heard the same at the split.
  secret derive(std::string_view label) const;

private:
  std::array<unsigned char, 12> next_nonce();

  secret chain_, key_;
  std::array<std::byte, 32> hash_{}, split_{};
  std::uint64_t sealed_ = 0;  // with key_
};

}  // namespace isthmus
