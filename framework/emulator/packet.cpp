#include "framework/emulator/packet.hpp"

namespace isthmus::emulator {

namespace {

constexpr std::size_t ip_header_bytes = 20, tcp_header_bytes = 20;
constexpr std::uint8_t tcp_protocol = 6, flag_reset = 0x04, flag_acknowledge = 0x10;

std::uint32_t get(std::span<const std::byte> bytes, std::size_t at, std::size_t size) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value = value << 8 | std::to_integer<std::uint32_t>(bytes[at + i]);
  return value;
}
void put(std::span<std::byte> bytes, std::size_t at, std::size_t size, std::uint32_t value) {
  for (std::size_t i = size; i > 0; --i, value >>= 8) bytes[at + i - 1] = static_cast<std::byte>(value & 0xff);
}

std::uint32_t add_words(std::span<const std::byte> bytes, std::uint32_t sum = 0) {
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) sum += get(bytes, i, 2);
  if (bytes.size() % 2 == 1) sum += get(bytes, bytes.size() - 1, 1) << 8;
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

void set_ip_checksum(packet& p) {
  put(p, 10, 2, 0);
  put(p, 10, 2, ~add_words(std::span(p).first(ip_header_bytes)) & 0xffff);
}

/// tcp_begin to the packet's end is the segment.
void set_tcp_checksum(packet& p, std::size_t tcp_begin) {
  const auto segment = std::span(p).subspan(tcp_begin);
  put(p, tcp_begin + 16, 2, 0);
  const auto pseudo_header = add_words(std::span(p).subspan(12, 8), tcp_protocol + static_cast<std::uint32_t>(segment.size()));
  put(p, tcp_begin + 16, 2, ~add_words(segment, pseudo_header) & 0xffff);
}

}  // namespace

std::optional<packet_view> view_packet(std::span<const std::byte> bytes) {
  if (bytes.size() < ip_header_bytes || get(bytes, 0, 1) >> 4 != 4) return std::nullopt;
  const std::size_t header = (get(bytes, 0, 1) & 15) * 4, total = get(bytes, 2, 2);
  if (header < ip_header_bytes || total < header || total > bytes.size()) return std::nullopt;
  if ((get(bytes, 6, 2) & 0x3fff) != 0) return std::nullopt;
  packet_view view;
  view.from = get(bytes, 12, 4);
  view.to = get(bytes, 16, 4);
  if (get(bytes, 9, 1) != tcp_protocol || total - header < tcp_header_bytes) return view;
  const std::size_t tcp_header = (get(bytes, header + 12, 1) >> 4) * 4;
  if (tcp_header < tcp_header_bytes || tcp_header > total - header) return view;
  view.tcp = true;
  view.tcp_begin = header;
  view.from_port = static_cast<std::uint16_t>(get(bytes, header, 2));
  view.to_port = static_cast<std::uint16_t>(get(bytes, header + 2, 2));
  view.sequence = get(bytes, header + 4, 4);
  view.acknowledged = get(bytes, header + 8, 4);
  view.acknowledges = (get(bytes, header + 13, 1) & flag_acknowledge) != 0;
  view.payload_begin = header + tcp_header;
  view.payload_bytes = total - view.payload_begin;
  return view;
}

void tear(packet& bytes, const packet_view& view) {
  const std::size_t end = view.payload_begin + view.payload_bytes;
  bytes.resize(end);  // the checksum is over what the header says, and no more
  bytes[end - 1] ^= std::byte{0x55};
  set_tcp_checksum(bytes, view.tcp_begin);
}

packet make_reset(const packet_view& view, std::uint32_t sequence) {
  packet p(ip_header_bytes + tcp_header_bytes);
  put(p, 0, 1, 0x45);
  put(p, 2, 2, static_cast<std::uint32_t>(p.size()));
  put(p, 8, 1, 64);
  put(p, 9, 1, tcp_protocol);
  put(p, 12, 4, view.from);
  put(p, 16, 4, view.to);
  set_ip_checksum(p);
  put(p, ip_header_bytes, 2, view.from_port);
  put(p, ip_header_bytes + 2, 2, view.to_port);
  put(p, ip_header_bytes + 4, 4, sequence);
  put(p, ip_header_bytes + 8, 4, view.acknowledged);
  put(p, ip_header_bytes + 12, 1, tcp_header_bytes / 4 << 4);
  put(p, ip_header_bytes + 13, 1, flag_reset | flag_acknowledge);
  set_tcp_checksum(p, ip_header_bytes);
  return p;
}

}  // namespace isthmus::emulator
