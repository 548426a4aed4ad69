#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/rng.hpp"
#include "framework/rounds/messages.hpp"

#include <string>

namespace isthmus::testing {

/// A valid message of kind `kind` (index in peer_message) with every field drawn; lists have up to `longest` elements.
peer_message random_message(rng& draws, std::size_t kind, std::size_t longest);

/// Field by field.
bool same(const peer_message& a, const peer_message& b);

template <class T>
std::string why(const expected<T>& outcome) {
  return outcome ? "no error" : outcome.error().message;
}

}  // namespace isthmus::testing
