#include "framework/transport/transcript.hpp"

#include <sodium.h>

#include <algorithm>

namespace isthmus {

namespace {

const unsigned char* raw(std::span<const std::byte> bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }

std::span<const std::byte> as_span(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

static_assert(transcript::tag_bytes == crypto_aead_chacha20poly1305_ietf_ABYTES);

}  // namespace

transcript::transcript(std::string_view protocol) {
  start_sodium();
  crypto_generichash(reinterpret_cast<unsigned char*>(hash_.data()), hash_.size(), raw(as_span(protocol)), protocol.size(), nullptr, 0);
  std::copy(hash_.begin(), hash_.end(), chain_.bytes().begin());
}

void transcript::add(std::span<const std::byte> said) {
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, hash_.size());
  crypto_generichash_update(&state, raw(hash_), hash_.size());
  crypto_generichash_update(&state, raw(said), said.size());
  crypto_generichash_final(&state, reinterpret_cast<unsigned char*>(hash_.data()), hash_.size());
}

void transcript::mix(const secret& shared) {
  std::array<unsigned char, 2 * secret::size> both;
  crypto_generichash(both.data(), both.size(), shared.raw(), secret::size, chain_.raw(), secret::size);
  std::copy_n(both.begin(), secret::size, chain_.raw());
  std::copy_n(both.begin() + secret::size, secret::size, key_.raw());
  sodium_memzero(both.data(), both.size());
  sealed_ = 0;
}

std::array<unsigned char, 12> transcript::next_nonce() {
  std::array<unsigned char, 12> nonce{};
  for (std::size_t i = 0; i < 8; ++i) nonce[4 + i] = static_cast<unsigned char>(sealed_ >> (8 * i));
  ++sealed_;
  return nonce;
}

void transcript::seal(std::span<const std::byte> plain, std::vector<std::byte>& out) {
  const auto nonce = next_nonce();
  const std::size_t at = out.size();
  out.resize(at + plain.size() + tag_bytes);
  const std::span<std::byte> sealed = std::span(out).subspan(at);
  crypto_aead_chacha20poly1305_ietf_encrypt(reinterpret_cast<unsigned char*>(sealed.data()), nullptr, raw(plain), plain.size(), raw(hash_),
                                            hash_.size(), nullptr, nonce.data(), key_.raw());
  add(sealed);
}

bool transcript::open(std::span<const std::byte> sealed, std::span<std::byte> plain) {
  ensure(sealed.size() == plain.size() + tag_bytes, "transcript: a sealed part is 16 bytes longer");
  const auto nonce = next_nonce();
  if (crypto_aead_chacha20poly1305_ietf_decrypt(reinterpret_cast<unsigned char*>(plain.data()), nullptr, nullptr, raw(sealed),
                                                sealed.size(), raw(hash_), hash_.size(), nonce.data(), key_.raw()) != 0)
    return false;
  add(sealed);
  return true;
}

secret transcript::derive(std::string_view label) const {
  secret out;
  crypto_generichash_state state;
  crypto_generichash_init(&state, chain_.raw(), secret::size, secret::size);
  crypto_generichash_update(&state, raw(as_span(label)), label.size());
  crypto_generichash_update(&state, raw(split_), split_.size());
  crypto_generichash_final(&state, out.raw(), secret::size);
  sodium_memzero(&state, sizeof state);
  return out;
}

}  // namespace isthmus
