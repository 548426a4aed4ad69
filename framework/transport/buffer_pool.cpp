#include "framework/transport/buffer_pool.hpp"

#include <algorithm>
#include <utility>

namespace isthmus {

std::shared_ptr<buffer> buffer_pool::take(std::size_t bytes) {
  if (bytes < bytes_ / 2) return std::make_shared<buffer>(bytes);
  auto& buffers = kept_->buffers;
  std::unique_ptr<buffer> one;
  if (buffers.empty()) {
    one = std::make_unique<buffer>(bytes_);
  } else {
    one = std::move(buffers.back());
    buffers.pop_back();
    kept_->unused = std::min(kept_->unused, buffers.size());
  }
  const auto give_back = [kept = std::weak_ptr(kept_)](buffer* raw) {
    std::unique_ptr<buffer> back(raw);
    if (const auto still = kept.lock(); still && still->buffers.size() < kept_max) still->buffers.push_back(std::move(back));
  };
  return {one.release(), give_back};
}

void buffer_pool::trim() {
  auto& buffers = kept_->buffers;
  buffers.erase(buffers.begin(), buffers.begin() + static_cast<std::ptrdiff_t>(kept_->unused));
  kept_->unused = buffers.size();
}

}  // namespace isthmus
