#pragma once

#include "kernels/cuda/queue.hpp"
#include "kernels/linear.hpp"

#include <type_traits>

namespace isthmus::kernels::cuda {

void round_to_bf16(queue& q, const float* from, bf16* to, std::int64_t count);

/// The weights as products read them: the master itself, or for bf16 a rounded copy in device memory.
template <class Act>
class device_matrix final : public matrix<Act> {
public:
  using matrix<Act>::matrix;
  ~device_matrix() override { device_memory.release(rounded_); }
  void weights_changed() override { stale_ = true; }
  const Act* values(queue& q) {
    if constexpr (std::is_same_v<Act, float>) {
      return this->master;
    } else {
      const std::int64_t count = this->out * this->in;
      if (!rounded_) rounded_ = static_cast<Act*>(device_memory.allocate(static_cast<std::size_t>(count) * sizeof(Act)));
      if (stale_) round_to_bf16(q, this->master, rounded_, count);
      stale_ = false;
      return rounded_;
    }
  }

private:
  Act* rounded_ = nullptr;
  bool stale_ = true;
};

template <class Act>
const Act* weights_of(queue& q, matrix<Act>* w) {
  return static_cast<device_matrix<Act>*>(w)->values(q);
}

}  // namespace isthmus::kernels::cuda
