#pragma once

#include "framework/core/error.hpp"

#include <utility>
#include <variant>

namespace isthmus {

/// Carries an error into an expected<T> of any T: `return fail(errc::truncated, "...")`.
struct unexpected {
  isthmus::error value;
};

inline unexpected fail(errc code, std::string message) { return {{code, std::move(message)}}; }

/// A value, or the error of the outside world that kept us from it (std::expected needs C++23).
/// Reading the wrong half throws contract_error.
template <class T>
class [[nodiscard]] expected {
public:
  expected(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  expected(unexpected e) : state_(std::in_place_index<1>, std::move(e.value)) {}

  explicit operator bool() const { return state_.index() == 0; }
  bool has_value() const { return state_.index() == 0; }

  T& operator*() & { return get(); }
  const T& operator*() const& { return const_cast<expected*>(this)->get(); }
  T&& operator*() && { return std::move(get()); }
  T* operator->() { return &get(); }
  const T* operator->() const { return &const_cast<expected*>(this)->get(); }

  const isthmus::error& error() const {
    ensure(!has_value(), "expected: error() read from a value");
    return std::get<1>(state_);
  }
  /// The error again, to hand it up: `if (!x) return x.failure();`
  unexpected failure() const { return {error()}; }

private:
  T& get() {
    ensure(has_value(), "expected: value read from an error");
    return std::get<0>(state_);
  }
  std::variant<T, isthmus::error> state_;
};

template <>
class [[nodiscard]] expected<void> {
public:
  expected() = default;
  expected(unexpected e) : error_(std::move(e.value)) {}

  explicit operator bool() const { return error_.code == errc::ok; }
  bool has_value() const { return error_.code == errc::ok; }
  const isthmus::error& error() const {
    ensure(!has_value(), "expected: error() read from a value");
    return error_;
  }
  unexpected failure() const { return {error()}; }

private:
  isthmus::error error_;
};

}  // namespace isthmus
