#pragma once

#include <cstddef>
#include <string_view>

namespace isthmus {

/// The end of the pre-token that begins at `at` < text.size(), cut as GPT-2 does (Radford et al. 2019):
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// by a hand-written scanner, linear in the text, with the Unicode categories of ICU. The pieces join to the text again. Text
/// should be UTF-8; a byte that is not is taken for a symbol of its own, so that any bytes have pre-tokens.
std::size_t pre_token_end(std::string_view text, std::size_t at);

/// How a tokenizer cuts text before it merges.
enum class pre_token_pattern {
  gpt2,   // as above
  llama3  // Llama 3, also cl100k of OpenAI: contractions in either case, digits in threes, one symbol or blank before a word, and
          // line ends behind symbols and blanks:
          //   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
};

/// The same by a pattern.
std::size_t pre_token_end(std::string_view text, std::size_t at, pre_token_pattern pattern);

/// Llama 3's pattern as a tokenizer.json spells it.
inline constexpr std::string_view llama3_regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

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
