#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace isthmus {

enum class state_kind { kv, ssm, conv, hyena };

/// One array that a layer remembers of a sequence. One that grows holds row_bytes a token; the others keep their size.
struct state_part {
  state_kind kind;
  std::size_t row_bytes = 0;  // 0: does not grow
  std::vector<std::byte> bytes;
  std::int64_t window = 0;  // of one that grows: the next token looks at so many rows, its own included; 0: at all
  std::int64_t first = 0;   // the token whose row is the first that is held

  template <class T>
  T* as() {
    return reinterpret_cast<T*>(bytes.data());
  }
  template <class T>
  const T* as() const {
    return reinterpret_cast<const T*>(bytes.data());
  }
  /// Rows held, of one that grows.
  std::int64_t rows() const { return static_cast<std::int64_t>(bytes.size() / row_bytes); }
  /// Makes room for so many more rows, at a cost that is spread over many calls.
  void grow(std::int64_t count);
  /// Drops rows that no token from `position` on looks at, whenever a window's worth of them has come together: what is left depends on the
  /// position alone, and is less than two windows.
  void drop_unseen(std::int64_t position);
  bool operator==(const state_part&) const = default;
};

/// A part of `count` zeros of type T.
template <class T>
state_part fixed_part(state_kind kind, std::int64_t count) {
  return {kind, 0, std::vector<std::byte>(static_cast<std::size_t>(count) * sizeof(T))};
}

/// An empty part that grows by `width` numbers of type T a token, of which each looks at `window` rows, or with 0 at all.
template <class T>
state_part growing_part(state_kind kind, std::int64_t width, std::int64_t window = 0) {
  return {kind, static_cast<std::size_t>(width) * sizeof(T), {}, window};
}

/// What one layer remembers of a sequence; the layer says which part is which.
using layer_state = std::vector<state_part>;

}  // namespace isthmus
