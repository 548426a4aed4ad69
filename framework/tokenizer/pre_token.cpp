#include "framework/tokenizer/pre_token.hpp"

#include "framework/tokenizer/utf8.hpp"

#include <unicode/uchar.h>

#include <array>
#include <cstdint>
#include <string>

namespace isthmus {

namespace {

enum class kind : std::uint8_t { letter, number, space, symbol, not_ascii };

struct character {
  kind what = kind::symbol;
  std::size_t bytes = 1;
};

kind kind_of(char32_t code) {
  if (code == not_a_character) return kind::symbol;
  const auto c = static_cast<UChar32>(code);
  if (u_isUWhiteSpace(c)) return kind::space;
  const std::uint32_t category = U_MASK(u_charType(c));
  if (category & U_GC_L_MASK) return kind::letter;
  return category & U_GC_N_MASK ? kind::number : kind::symbol;
}

constexpr std::array<kind, 256> make_table() {
  std::array<kind, 256> table{};
  for (unsigned c = 0; c < 256; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool space = c == ' ' || (c >= 9 && c <= 13);
    table[c] = c >= 128               ? kind::not_ascii
               : letter               ? kind::letter
               : c >= '0' && c <= '9' ? kind::number
               : space                ? kind::space
                                      : kind::symbol;
  }
  return table;
}
constexpr std::array<kind, 256> table = make_table();

kind ascii_kind(char c) { return table[static_cast<unsigned char>(c)]; }

character look(std::string_view text, std::size_t at) {
  const kind what = ascii_kind(text[at]);
  if (what != kind::not_ascii) return {what, 1};
  const auto c = decode_utf8(text, at);
  return {kind_of(c.code), c.bytes};
}

std::size_t run_end(std::string_view text, std::size_t at, kind what) {
  for (;;) {
    while (at < text.size() && ascii_kind(text[at]) == what) ++at;
    if (at == text.size() || ascii_kind(text[at]) != kind::not_ascii) return at;
    const character c = look(text, at);
    if (c.what != what) return at;
    at += c.bytes;
  }
}

// 's|'t|'re|'ve|'m|'ll|'d after the apostrophe at `at`: its length, or 0.
std::size_t contraction(std::string_view text, std::size_t at) {
  const auto next = [&](std::size_t i) { return at + i < text.size() ? text[at + i] : '\0'; };
  switch (next(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd': return 2;
    case 'r':
    case 'v': return next(2) == 'e' ? 3 : 0;
    case 'l': return next(2) == 'l' ? 3 : 0;
    default: return 0;
  }
}

// \s+(?!\S)|\s+: a run of spaces but for its last one when something follows, which then leads the next piece.
std::size_t space_end(std::string_view text, std::size_t at) {
  std::size_t last = at, end = at;
  while (end < text.size()) {
    const character c = look(text, end);
    if (c.what != kind::space) break;
    last = end;
    end += c.bytes;
  }
  return end == text.size() || last == at ? end : last;
}

bool is_line_end(char c) { return c == '\r' || c == '\n'; }

// The same in either case; the long s (U+017F) is an s then.
std::size_t contraction_of_any_case(std::string_view text, std::size_t at) {
  if (text.substr(at + 1, 2) == "\u017f") return 3;
  std::string small(text.substr(at, 3));
  for (char& c : small)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return contraction(small, 0);
}

// \s*[\r\n]+|\s+(?!\S)|\s+: a run of spaces up to its last line end, if it has one.
std::size_t llama3_space_end(std::string_view text, std::size_t at) {
  std::size_t lines = at;
  for (std::size_t end = at; end < text.size();) {
    const character c = look(text, end);
    if (c.what != kind::space) break;
    if (is_line_end(text[end])) lines = end + 1;
    end += c.bytes;
  }
  return lines > at ? lines : space_end(text, at);
}

std::size_t llama3_end(std::string_view text, std::size_t at) {
  const character first = look(text, at);
  if (text[at] == '\'')
    if (const std::size_t length = contraction_of_any_case(text, at); length > 0) return at + length;
  if (first.what == kind::letter) return run_end(text, at + first.bytes, kind::letter);
  if (first.what == kind::number) {
    std::size_t end = at + first.bytes;
    for (int digits = 1; digits < 3 && end < text.size(); ++digits) {
      const character c = look(text, end);
      if (c.what != kind::number) break;
      end += c.bytes;
    }
    return end;
  }
  const std::size_t behind = at + first.bytes;
  const kind second = behind < text.size() ? look(text, behind).what : kind::space;
  if (second == kind::letter && !is_line_end(text[at])) return run_end(text, behind, kind::letter);
  if (first.what == kind::symbol || (text[at] == ' ' && second == kind::symbol)) {
    std::size_t end = run_end(text, behind, kind::symbol);
    while (end < text.size() && is_line_end(text[end])) ++end;
    return end;
  }
  return llama3_space_end(text, at);
}

}  // namespace

std::size_t pre_token_end(std::string_view text, std::size_t at, pre_token_pattern pattern) {
  return pattern == pre_token_pattern::gpt2 ? pre_token_end(text, at) : llama3_end(text, at);
}

std::size_t pre_token_end(std::string_view text, std::size_t at) {
  const character first = look(text, at);
  if (text[at] == '\'')
    if (const std::size_t length = contraction(text, at); length > 0) return at + length;
  if (first.what != kind::space) return run_end(text, at + first.bytes, first.what);
  if (text[at] == ' ' && at + 1 < text.size()) {
    const character second = look(text, at + 1);
    if (second.what != kind::space) return run_end(text, at + 1 + second.bytes, second.what);
  }
  return space_end(text, at);
}

}  // namespace isthmus
