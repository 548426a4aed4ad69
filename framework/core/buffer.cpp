#include "framework/core/buffer.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace isthmus {

namespace {
constexpr std::size_t huge_page = std::size_t{2} << 20;
}

buffer::buffer(std::size_t bytes) : bytes_(bytes) {
  if (bytes < huge_page) {
    const std::size_t rounded = (bytes + 63) / 64 * 64 + (bytes == 0 ? 64 : 0);
    data_ = static_cast<std::byte*>(std::aligned_alloc(64, rounded));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(data_, 0, rounded);
    return;
  }
  const std::size_t mapped = (bytes + huge_page - 1) / huge_page * huge_page;
  data_ = static_cast<std::byte*>(std::aligned_alloc(huge_page, mapped));
  if (data_ == nullptr) throw std::bad_alloc();
  madvise(data_, mapped, MADV_HUGEPAGE);  // advice: a kernel that refuses it is slower, not wrong
  std::memset(data_, 0, mapped);
}

buffer::~buffer() { std::free(data_); }

shared_bytes make_shared_bytes(std::span<const std::byte> bytes) {
  auto made = std::make_shared<buffer>(bytes.size());
  if (!bytes.empty()) std::memcpy(made->data(), bytes.data(), bytes.size());
  return made;
}

}  // namespace isthmus
