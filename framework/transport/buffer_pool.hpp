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

  /// What it held before is still in it. One with less than half of that to hold is fresh, of that size, and does not come back: else a
  /// burst of small ones would leave as many large ones behind. 0 < bytes <= the pool's.
  std::shared_ptr<buffer> take(std::size_t bytes);
  /// Frees what nobody needed since the last call. To be called now and then.
  void trim();
  std::size_t kept() const { return kept_->buffers.size(); }

private:
  struct list {
    std::vector<std::unique_ptr<buffer>> buffers;  // the last one goes first
    std::size_t unused = 0;                        // so many of the first ones nobody needed since the last trim()
  };
  std::size_t bytes_;
  std::shared_ptr<list> kept_;
};

}  // namespace isthmus
