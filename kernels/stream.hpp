#pragma once

#include "kernels/team.hpp"

namespace isthmus::kernels {

/// Where kernels run: the first argument of each. Made by backend::make_stream; a backend may derive from it to keep its own
/// state (caches of generated code, a device queue). Used by one thread at a time; borrows the team.
class stream {
public:
  explicit stream(team& t) : workers(t) {}
  virtual ~stream() = default;
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;
  /// Returns when all kernels called so far have ended. Host backends have nothing to wait for.
  virtual void finish() {}

  team& workers;
};

}  // namespace isthmus::kernels
