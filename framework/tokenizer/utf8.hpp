#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace isthmus {

inline constexpr char32_t not_a_character = 0xffffffffU;

struct decoded_character {
  char32_t code = not_a_character;
  std::size_t bytes = 1;
};

/// The character at `at` < text.size(); {not_a_character, 1} where the bytes are not well-formed UTF-8 (no overlong forms,
/// surrogates, or codes past U+10FFFF).
decoded_character decode_utf8(std::string_view text, std::size_t at);

void append_utf8(std::string& text, char32_t code);

bool is_utf8(std::string_view text);

/// Latin-1 bytes as UTF-8.
std::string latin1_to_utf8(std::string_view text);

}  // namespace isthmus
