#pragma once

#include "framework/core/expected.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace isthmus {

inline constexpr std::size_t bulk_header_bytes_max = 1024;
inline constexpr std::size_t chunk_bytes_min = 64U << 10, chunk_bytes_most = 4U << 20;

/// The front of each chunk of a bulk message (docs/wire.md): says where the chunk's bytes belong. The first chunk, at offset 0, also
/// carries the message's own header.
struct chunk_header {
  std::uint64_t link_token = 0;               // what the receiver gave this sender in its greeting: whose chunk it is
  std::uint64_t transfer = 0;                 // the sender's serial number of the message on this link
  std::uint64_t total_bytes = 0;              // of the payload
  std::uint64_t offset = 0;                   // of this chunk, a multiple of chunk_bytes
  std::uint32_t chunk_bytes = 0;              // of every chunk but the last
  std::span<const std::byte> message_header;  // at offset 0 only

  std::uint64_t length() const { return total_bytes - offset < chunk_bytes ? total_bytes - offset : chunk_bytes; }
};

std::vector<std::byte> write_chunk_header(const chunk_header& h);
/// The message's header is borrowed from `bytes`. Errors: malformed, too_large, out_of_range.
expected<chunk_header> read_chunk_header(std::span<const std::byte> bytes);

/// What travels on a bulk connection of our own, as the body of a frame: u16 bytes of the header, the header, the chunk's bytes; both as they
/// would be given to UCX. Writes the front; the chunk's bytes belong behind it.
std::size_t write_bulk_front(std::span<const std::byte> header, std::span<std::byte> body);
struct bulk_frame {
  std::span<const std::byte> header, data;  // borrowed
};
/// Errors: malformed.
expected<bulk_frame> read_bulk_frame(std::span<const std::byte> body);

}  // namespace isthmus
