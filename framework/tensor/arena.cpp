#include "framework/tensor/arena.hpp"

#include "framework/core/error.hpp"

#include <algorithm>

namespace isthmus {

std::byte* arena::take_bytes(std::size_t bytes) {
  constexpr std::size_t alignment = 64;
  const std::size_t begin = used_;
  used_ = (used_ + bytes + alignment - 1) / alignment * alignment;
  most_used_ = std::max(most_used_, used_);
  if (!memory_.data()) return nullptr;
  ensure(used_ <= memory_.size(), "arena: out of memory");
  return memory_.data() + begin;
}

}  // namespace isthmus
