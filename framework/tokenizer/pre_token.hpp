#pragma once

#include <cstddef>
#include <string_view>

namespace isthmus {

/// The end of the pre-token that begins at `at` < text.size(), cut as GPT-2 does (Radford et al. 2019):
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// by a hand-written scanner, linear in the text, with the Unicode categories of ICU. The pieces join to the text again. Text
/// should be UTF-8; a byte that is not is taken for a symbol of its own, so that any bytes have pre-tokens.
std::size_t pre_token_end(std::string_view text, std::size_t at);

/// Calls sink(std::string_view) for every pre-token, in order.
template <class Sink>
void for_each_pre_token(std::string_view text, Sink&& sink) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = pre_token_end(text, at);
    sink(text.substr(at, end - at));
    at = end;
  }
}

}  // namespace isthmus
