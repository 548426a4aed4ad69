#pragma once

#include <cstddef>

namespace isthmus::kernels {

/// Memory that grows to what was last asked for and is kept, 64-byte aligned, on huge pages when it is large.
class scratch_block {
public:
  scratch_block() = default;
  ~scratch_block();
  scratch_block(const scratch_block&) = delete;
  scratch_block& operator=(const scratch_block&) = delete;
  /// Contents are lost when it grows.
  std::byte* at_least(std::size_t bytes);

private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace isthmus::kernels
