#include "framework/transport/buffer_pool.hpp"

#include <utility>

namespace isthmus {

std::shared_ptr<buffer> buffer_pool::take() {
  std::unique_ptr<buffer> one;
  if (kept_->empty()) {
    one = std::make_unique<buffer>(bytes_);
  } else {
    one = std::move(kept_->back());
    kept_->pop_back();
  }
  const auto give_back = [kept = std::weak_ptr(kept_)](buffer* raw) {
    std::unique_ptr<buffer> back(raw);
    if (const auto still = kept.lock(); still && still->size() < kept_max) still->push_back(std::move(back));
  };
  return {one.release(), give_back};
}

}  // namespace isthmus
