#pragma once

#include "framework/core/expected.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace isthmus {

/// GPT-2's printable stand-in for each byte: 33-126, 161-172 and 174-255 stand for themselves, the other 68 for U+0100 upwards.
const std::array<char32_t, 256>& byte_alphabet();

/// The bytes in the order of their stand-ins' code points: the order of their ids.
std::array<std::uint8_t, 256> byte_order_of_ids();

/// Bytes -> stand-ins in UTF-8, as tokens stand in tokenizer.json.
std::string to_byte_alphabet(std::string_view bytes);

/// Back; an error tells the character that stands for no byte.
expected<std::string> from_byte_alphabet(std::string_view utf8);

}  // namespace isthmus
