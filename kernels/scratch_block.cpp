#include "kernels/scratch_block.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace isthmus::kernels {

scratch_block::~scratch_block() { std::free(data_); }

std::byte* scratch_block::at_least(std::size_t bytes) {
  if (bytes <= bytes_) return data_;
  constexpr std::size_t huge_page = std::size_t{2} << 20;
  const std::size_t unit = bytes < huge_page ? 64 : huge_page, rounded = (bytes + unit - 1) / unit * unit;
  std::free(data_);
  bytes_ = 0;
  data_ = static_cast<std::byte*>(std::aligned_alloc(unit, rounded));
  if (data_ == nullptr) throw std::bad_alloc();
  if (unit == huge_page) madvise(data_, rounded, MADV_HUGEPAGE);  // advice: refused, it is slower, not wrong
  bytes_ = rounded;
  return data_;
}

}  // namespace isthmus::kernels
