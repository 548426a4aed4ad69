#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace isthmus {

/// Hands out consecutive pieces of one block of memory, 64-byte aligned. Without memory it only counts, so that the same code
/// first tells how much it wants and then takes it. Owns nothing.
class arena {
public:
  arena() = default;  // counts: take() gives null
  explicit arena(std::span<std::byte> memory) : memory_(memory) {}

  /// `count` elements, contents undefined. Throws contract_error when the memory is used up.
  template <class T>
  T* take(std::int64_t count) {
    return reinterpret_cast<T*>(take_bytes(static_cast<std::size_t>(count) * sizeof(T)));
  }
  std::size_t used() const { return used_; }
  std::size_t most_used() const { return most_used_; }
  /// Gives back all that was taken since used() was `mark`.
  void rewind(std::size_t mark) { used_ = mark; }

private:
  std::byte* take_bytes(std::size_t bytes);

  std::span<std::byte> memory_;
  std::size_t used_ = 0, most_used_ = 0;
};

}  // namespace isthmus
