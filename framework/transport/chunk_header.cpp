#include "framework/transport/chunk_header.hpp"

#include <algorithm>

#include "framework/transport/byte_io.hpp"

namespace isthmus {

namespace {
constexpr std::uint32_t chunk_magic = 0x31435349;  // "ISC1"
}

std::vector<std::byte> write_chunk_header(const chunk_header& h) {
  byte_writer out;
  out.number(chunk_magic);
  out.number(h.link_token);
  out.number(h.transfer);
  out.number(h.total_bytes);
  out.number(h.offset);
  out.number(h.chunk_bytes);
  out.number(static_cast<std::uint16_t>(h.message_header.size()));
  out.raw(h.message_header);
  return out.take();
}

expected<chunk_header> read_chunk_header(std::span<const std::byte> bytes) {
  byte_reader in(bytes);
  if (in.number<std::uint32_t>() != chunk_magic) return fail(errc::malformed, "chunk: its header does not begin with ISC1");
  chunk_header h;
  h.link_token = in.number<std::uint64_t>();
  h.transfer = in.number<std::uint64_t>();
  h.total_bytes = in.number<std::uint64_t>();
  h.offset = in.number<std::uint64_t>();
  h.chunk_bytes = in.number<std::uint32_t>();
  const auto header_bytes = in.number<std::uint16_t>();
  if (header_bytes > bulk_header_bytes_max) return fail(errc::too_large, "chunk: a message header of more than 1024 bytes");
  h.message_header = in.raw(header_bytes);
  if (!in.exhausted())
    return fail(errc::malformed, "chunk: its header is " + std::to_string(bytes.size()) + " bytes and does not fit its fields");
  if (h.chunk_bytes < chunk_bytes_min || h.chunk_bytes > chunk_bytes_most)
    return fail(errc::out_of_range, "chunk: chunks of " + std::to_string(h.chunk_bytes) + " bytes; 64 KiB to 4 MiB are allowed");
  const bool on_grid = h.offset % h.chunk_bytes == 0 && (h.offset < h.total_bytes || (h.offset == 0 && h.total_bytes == 0));
  if (!on_grid)
    return fail(errc::out_of_range, "chunk: offset " + std::to_string(h.offset) + " of " + std::to_string(h.total_bytes) + " bytes");
  if (h.offset != 0 && header_bytes != 0) return fail(errc::malformed, "chunk: a message header behind the first chunk");
  return h;
}

std::size_t write_bulk_front(std::span<const std::byte> header, std::span<std::byte> body) {
  body[0] = static_cast<std::byte>(header.size());
  body[1] = static_cast<std::byte>(header.size() >> 8);
  std::copy(header.begin(), header.end(), body.begin() + 2);
  return 2 + header.size();
}

expected<bulk_frame> read_bulk_frame(std::span<const std::byte> body) {
  const std::size_t header = body.size() < 2 ? 0 : static_cast<std::size_t>(body[0]) | static_cast<std::size_t>(body[1]) << 8;
  if (body.size() < 2 || body.size() - 2 < header)
    return fail(errc::malformed, "bulk frame: " + std::to_string(body.size()) + " bytes, shorter than its header");
  return bulk_frame{body.subspan(2, header), body.subspan(2 + header)};
}

}  // namespace isthmus
