#pragma once

#include "framework/core/expected.hpp"
#include "framework/formats/byte_source.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace isthmus {

/// Walks through the front of a GGUF file, in windows of 1 MiB. Begins at byte 0; `limit` bytes are the most that it reads in all.
class gguf_cursor {
public:
  gguf_cursor(const byte_source& source, std::uint64_t limit) : source_(source), end_(std::min(source.size(), limit)), limit_(limit) {}

  std::uint64_t at() const { return at_; }
  std::uint64_t left() const { return end_ - at_; }

  /// One number, little endian. `what` names it in messages.
  template <class T>
  expected<T> number(const char* what) {
    static_assert(std::is_arithmetic_v<T>);
    T value{};
    if (auto ok = take(&value, sizeof value, what); !ok) return ok.failure();
    return value;
  }
  /// u64 length and bytes, at most bytes_max, UTF-8 or not.
  expected<std::string> text(const char* what, std::uint64_t bytes_max);
  /// `count` numbers of type T, appended to out as U.
  template <class T, class U>
  expected<void> numbers(const char* what, std::uint64_t count, std::vector<U>& out) {
    if (count > left() / sizeof(T)) return past_the_end(what, count, sizeof(T));
    out.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      T value{};
      if (auto ok = take(&value, sizeof value, what); !ok) return ok;
      out.push_back(static_cast<U>(value));
    }
    return {};
  }
  /// "file: byte 17: what"
  unexpected bad(errc code, const std::string& what) const;
  unexpected past_the_end(const char* what, std::uint64_t count, std::uint64_t item_bytes) const;

private:
  expected<void> take(void* out, std::size_t bytes, const char* what) {
    if (at_ < window_at_ || at_ - window_at_ > window_.size() || window_.size() - (at_ - window_at_) < bytes)
      if (auto ok = refill(bytes, what); !ok) return ok;
    std::memcpy(out, window_.data() + (at_ - window_at_), bytes);
    at_ += bytes;
    return {};
  }
  expected<void> refill(std::size_t bytes, const char* what);

  const byte_source& source_;
  std::uint64_t end_, limit_, at_ = 0;
  std::vector<std::byte> window_;
  std::uint64_t window_at_ = 0;
};

}  // namespace isthmus
