#include "framework/wire/frame.hpp"

#include <cstddef>

namespace isthmus::wire {

namespace {

/// Length of the well-formed sequence at the front of the text, 0 when there is none.
std::size_t sequence_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto follows = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xbf) { return byte(i) >= low && byte(i) <= high; };
  const unsigned first = byte(0);
  if (first >= 0x01 && first <= 0x7f) return 1;
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const unsigned low = first == 0xe0 ? 0xa0 : 0x80;
    const unsigned high = first == 0xed ? 0x9f : 0xbf;
    return follows(1, low, high) && follows(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const unsigned low = first == 0xf0 ? 0x90 : 0x80;
    const unsigned high = first == 0xf4 ? 0x8f : 0xbf;
    return follows(1, low, high) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t n = sequence_length(text);
    if (n == 0) return false;
    text.remove_prefix(n);
  }
  return true;
}

std::string clipped_utf8(std::string_view text, std::size_t bytes_max) {
  std::string clipped;
  while (!text.empty()) {
    const std::size_t n = sequence_length(text);
    if (clipped.size() + (n == 0 ? 1 : n) > bytes_max) break;
    if (n == 0)
      clipped += '?';
    else
      clipped += text.substr(0, n);
    text.remove_prefix(n == 0 ? 1 : n);
  }
  return clipped;
}

}  // namespace isthmus::wire
