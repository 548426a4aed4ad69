#include "framework/transport/chunk_seal.hpp"

#include "framework/core/error.hpp"
#include "framework/transport/byte_io.hpp"

#include <sodium.h>

#include <array>
#include <utility>

namespace isthmus {

namespace {

enum class half : unsigned char { header = 0, data = 1 };
using nonce = std::array<unsigned char, crypto_aead_chacha20poly1305_ietf_NPUBBYTES>;
static_assert(chunk_sealer::tag_bytes == crypto_aead_chacha20poly1305_ietf_ABYTES);
static_assert(secret::size == crypto_aead_chacha20poly1305_ietf_KEYBYTES);

const unsigned char* raw(std::span<const std::byte> bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }
unsigned char* raw_out(std::span<std::byte> bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); }

nonce nonce_of(std::uint64_t number, half part) {
  nonce out{};
  out[0] = static_cast<unsigned char>(part);
  for (std::size_t i = 0; i < 8; ++i) out[4 + i] = static_cast<unsigned char>(number >> (8 * i));
  return out;
}

}  // namespace

chunk_sealer::chunk_sealer(secret key) : key_(std::move(key)) { start_sodium(); }

std::vector<std::byte> chunk_sealer::header(std::span<const std::byte> chunk_header) {
  byte_writer front;
  front.number(next_);
  auto out = front.take();
  out.resize(header_overhead + chunk_header.size());
  const nonce n = nonce_of(next_++, half::header);
  crypto_aead_chacha20poly1305_ietf_encrypt(raw_out(std::span(out).subspan(8)), nullptr, raw(chunk_header), chunk_header.size(), nullptr, 0,
                                            nullptr, n.data(), key_.raw());
  return out;
}

void chunk_sealer::data(std::span<const std::byte> wire_header, std::span<const std::byte> plain, std::span<std::byte> out) {
  ensure(out.size() == plain.size() + tag_bytes && chunk_opener::number(wire_header) + 1 == next_, "chunk_sealer: one chunk at a time");
  const nonce n = nonce_of(next_ - 1, half::data);
  crypto_aead_chacha20poly1305_ietf_encrypt(raw_out(out), nullptr, raw(plain), plain.size(), raw(wire_header), wire_header.size(), nullptr,
                                            n.data(), key_.raw());
}

chunk_opener::chunk_opener(secret key) : key_(std::move(key)) { start_sodium(); }

std::uint64_t chunk_opener::number(std::span<const std::byte> wire_header) { return byte_reader(wire_header).number<std::uint64_t>(); }

std::optional<std::vector<std::byte>> chunk_opener::header(std::span<const std::byte> wire_header) {
  if (wire_header.size() < chunk_sealer::header_overhead) return std::nullopt;
  std::vector<std::byte> out(wire_header.size() - chunk_sealer::header_overhead);
  const nonce n = nonce_of(number(wire_header), half::header);
  const auto sealed = wire_header.subspan(8);
  if (crypto_aead_chacha20poly1305_ietf_decrypt(raw_out(out), nullptr, nullptr, raw(sealed), sealed.size(), nullptr, 0, n.data(),
                                                key_.raw()) != 0)
    return std::nullopt;
  return out;
}

bool chunk_opener::data(std::span<const std::byte> wire_header, std::span<const std::byte> sealed, std::byte* out) {
  if (sealed.size() < chunk_sealer::tag_bytes) return false;
  const nonce n = nonce_of(number(wire_header), half::data);
  return crypto_aead_chacha20poly1305_ietf_decrypt(reinterpret_cast<unsigned char*>(out), nullptr, nullptr, raw(sealed), sealed.size(),
                                                   raw(wire_header), wire_header.size(), n.data(), key_.raw()) == 0;
}

}  // namespace isthmus
