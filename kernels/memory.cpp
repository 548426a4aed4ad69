#include "kernels/memory.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

namespace isthmus::kernels {

namespace {

constexpr std::size_t alignment = 64;

void* allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (!memory) throw std::bad_alloc();
  return memory;
}

void copy(stream&, void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void clear(stream&, void* memory, std::size_t bytes) {
  if (bytes > 0) std::memset(memory, 0, bytes);
}

}  // namespace

const memory_table host_memory{
    .on_host = true, .allocate = allocate, .release = std::free, .upload = copy, .download = copy, .clear = clear};

}  // namespace isthmus::kernels
