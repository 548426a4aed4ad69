#pragma once

#include "framework/transport/secret.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace isthmus {

/// The sending half of a sealed bulk path: each chunk's header and data are sealed with ChaCha20-Poly1305 under the key of this link and
/// direction, the nonce being the chunk's number and which half it is, so that none comes twice. On the wire the header is
/// u64 number, then the chunk's header sealed; it is the associated data of the sealed data (docs/wire.md).
class chunk_sealer {
public:
  static constexpr std::size_t tag_bytes = 16, header_overhead = 8 + tag_bytes;

  explicit chunk_sealer(secret key);
  /// Numbers the chunk and gives the header to send.
  std::vector<std::byte> header(std::span<const std::byte> chunk_header);
  /// Seals the data of the chunk that header() was last called for; out: tag_bytes longer.
  void data(std::span<const std::byte> wire_header, std::span<const std::byte> plain, std::span<std::byte> out);

private:
  secret key_;
  std::uint64_t next_ = 0;
};

/// The receiving half.
class chunk_opener {
public:
  explicit chunk_opener(secret key);
  /// The chunk's header; none when it does not open.
  std::optional<std::vector<std::byte>> header(std::span<const std::byte> wire_header);
  /// Verifies, then writes sealed.size() - tag_bytes bytes to out; false when it does not open: out holds zeros then at most.
  [[nodiscard]] bool data(std::span<const std::byte> wire_header, std::span<const std::byte> sealed, std::byte* out);
  /// The number in front of a header, which need not be true before it has opened.
  static std::uint64_t number(std::span<const std::byte> wire_header);

private:
  secret key_;
};

}  // namespace isthmus
