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

  template <class T>
  T* as() {
    return reinterpret_cast<T*>(bytes.data());
  }
  bool operator==(const state_part&) const = default;
};

/// A part of `count` zeros of type T.
template <class T>
state_part fixed_part(state_kind kind, std::int64_t count) {
  return {kind, 0, std::vector<std::byte>(static_cast<std::size_t>(count) * sizeof(T))};
}

/// An empty part that grows by `width` numbers of type T a token.
template <class T>
state_part growing_part(state_kind kind, std::int64_t width) {
  return {kind, static_cast<std::size_t>(width) * sizeof(T), {}};
}

/// What one layer remembers of a sequence; the layer says which part is which.
using layer_state = std::vector<state_part>;

}  // namespace isthmus
