#pragma once

#include "framework/core/buffer.hpp"

#include <cstddef>
#include <memory>
#include <vector>

namespace isthmus {

/// Buffers of one size that come back when their last owner lets go: fresh memory costs a page fault every 4 KiB. Of one thread; owners
/// may outlive the pool.
class buffer_pool {
public:
  static constexpr std::size_t kept_max = 32;
  explicit buffer_pool(std::size_t bytes) : bytes_(bytes), kept_(std::make_shared<list>()) {}

  /// What it held before is still in it.
  std::shared_ptr<buffer> take();

private:
  using list = std::vector<std::unique_ptr<buffer>>;
  std::size_t bytes_;
  std::shared_ptr<list> kept_;
};

}  // namespace isthmus
