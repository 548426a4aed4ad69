#include "framework/tokenizer/byte_alphabet.hpp"

#include "framework/tokenizer/utf8.hpp"

#include <fmt/format.h>

namespace isthmus {

namespace {

constexpr bool stands_for_itself(unsigned byte) { return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174; }

constexpr std::array<char32_t, 256> make_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) alphabet[byte] = stands_for_itself(byte) ? byte : next++;
  return alphabet;
}

constexpr std::array<char32_t, 256> alphabet = make_alphabet();
constexpr char32_t alphabet_end = 0x100 + 68;

constexpr std::array<std::int16_t, alphabet_end> make_inverse() {
  std::array<std::int16_t, alphabet_end> inverse{};
  for (auto& x : inverse) x = -1;
  for (unsigned byte = 0; byte < 256; ++byte) inverse[alphabet[byte]] = static_cast<std::int16_t>(byte);
  return inverse;
}

constexpr std::array<std::int16_t, alphabet_end> inverse = make_inverse();

}  // namespace

const std::array<char32_t, 256>& byte_alphabet() { return alphabet; }

std::array<std::uint8_t, 256> byte_order_of_ids() {
  std::array<std::uint8_t, 256> order{};
  std::size_t next = 0;
  for (const std::int16_t byte : inverse)
    if (byte >= 0) order[next++] = static_cast<std::uint8_t>(byte);
  return order;
}

std::string to_byte_alphabet(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) append_utf8(out, alphabet[static_cast<unsigned char>(c)]);
  return out;
}

expected<std::string> from_byte_alphabet(std::string_view utf8) {
  std::string out;
  for (std::size_t at = 0; at < utf8.size();) {
    const auto c = decode_utf8(utf8, at);
    if (c.code >= alphabet_end || inverse[c.code] < 0)
      return fail(errc::malformed, fmt::format("character U+{:04X} at byte {} stands for no byte", static_cast<std::uint32_t>(c.code), at));
    out.push_back(static_cast<char>(inverse[c.code]));
    at += c.bytes;
  }
  return out;
}

}  // namespace isthmus
