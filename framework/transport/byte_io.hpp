#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

/// Fixed layouts of the control channel and of chunks: little-endian numbers, texts with a 16-bit length.
namespace isthmus {

class byte_writer {
public:
  template <class T>
  void number(T value) {
    static_assert(std::is_unsigned_v<T>);
    for (std::size_t i = 0; i < sizeof(T); ++i) bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
  }
  void raw(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  /// text.size() < 65536
  void text(std::string_view text) {
    number(static_cast<std::uint16_t>(text.size()));
    raw(std::as_bytes(std::span(text.data(), text.size())));
  }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::vector<std::byte> take() { return std::move(bytes_); }

private:
  std::vector<std::byte> bytes_;
};

/// Reads past the end give zeros and set failed().
class byte_reader {
public:
  explicit byte_reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <class T>
  T number() {
    static_assert(std::is_unsigned_v<T>);
    const auto part = raw(sizeof(T));
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < part.size(); ++i) value |= static_cast<std::uint64_t>(part[i]) << (8 * i);
    return static_cast<T>(value);
  }
  std::span<const std::byte> raw(std::size_t n) {
    if (n > bytes_.size()) {
      failed_ = true;
      bytes_ = {};
      return {};
    }
    const auto part = bytes_.first(n);
    bytes_ = bytes_.subspan(n);
    return part;
  }
  std::string text() {
    const auto part = raw(number<std::uint16_t>());
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  bool failed() const { return failed_; }
  /// Nothing missing and nothing left over.
  bool exhausted() const { return !failed_ && bytes_.empty(); }

private:
  std::span<const std::byte> bytes_;
  bool failed_ = false;
};

}  // namespace isthmus
