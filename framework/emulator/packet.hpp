#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace isthmus::emulator {

using packet = std::vector<std::byte>;

/// What an emulator of links needs to know of an IPv4 packet. Addresses and ports in host order; all of TCP is 0 without it.
struct packet_view {
  std::uint32_t from = 0, to = 0;
  bool tcp = false;
  std::uint16_t from_port = 0, to_port = 0;
  std::uint32_t sequence = 0, acknowledged = 0;
  bool acknowledges = false;
  std::size_t tcp_begin = 0, payload_begin = 0, payload_bytes = 0;  // in the packet
};
/// Nothing for what is no whole IPv4 packet, or a fragment.
std::optional<packet_view> view_packet(std::span<const std::byte> bytes);

/// Flips the last payload byte of a TCP packet and makes its checksum right again, so that TCP hands it on: what a broken middle box
/// does. view: of that packet, with a payload.
void tear(packet& bytes, const packet_view& view);

/// A TCP packet without payload that breaks the connection of `view` at its receiving end when `sequence` is what that end expects next
/// (RFC 793, 9293).
packet make_reset(const packet_view& view, std::uint32_t sequence);

}  // namespace isthmus::emulator
