#pragma once

#include "kernels/stream.hpp"

#include <cstddef>
#include <stdexcept>

namespace isthmus::kernels {

/// A device has failed, is not there, or was asked for what it cannot do: what was called, and what it answered.
class device_error : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// The memory that a backend's kernels read and write, and the way there from the host's. All are ordered with the kernels of the
/// stream. Where `on_host` is true the host may read and write it as well, between kernels.
struct memory_table {
  bool on_host;
  /// 64-byte aligned or better, contents undefined; throws std::bad_alloc. Null for zero bytes.
  void* (*allocate)(std::size_t bytes);
  void (*release)(void* memory);
  /// The host's bytes may change as soon as it returns.
  void (*upload)(stream&, void* to, const void* host, std::size_t bytes);
  /// The bytes are there when it returns.
  void (*download)(stream&, void* host, const void* from, std::size_t bytes);
  void (*clear)(stream&, void* memory, std::size_t bytes);
};

/// That of every backend whose kernels run on the host.
extern const memory_table host_memory;

}  // namespace isthmus::kernels
