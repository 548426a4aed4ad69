#include "kernels/cuda/tensor_map.hpp"

#include "kernels/memory.hpp"

#include <dlfcn.h>

#include <string>

namespace isthmus::kernels::cuda {

namespace {

/// The driver's function, found at run time: programs start without a driver.
auto encode_function() {
  static const auto found = [] {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void* function = driver ? dlsym(driver, "cuTensorMapEncodeTiled") : nullptr;
    if (!function) throw device_error("the driver has no cuTensorMapEncodeTiled: is it older than CUDA 12?");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  return found;
}

}  // namespace

bool can_be_mapped(const head_rows& m) { return (m.stride | m.head_dim) % 8 == 0 && reinterpret_cast<std::uintptr_t>(m.at) % 16 == 0; }

CUtensorMap map_of(const head_rows& m, int rows) {
  const auto extent = [](std::int64_t n) { return static_cast<cuuint64_t>(n); };
  const cuuint64_t extents[] = {extent(m.head_dim), extent(m.heads), extent(m.length), extent(m.batch)};
  const cuuint64_t strides[] = {2 * extent(m.head_dim), 2 * extent(m.stride), 2 * extent(m.stride * m.length)};  // bytes
  const cuuint32_t box[] = {64, 1, static_cast<cuuint32_t>(rows), 1}, steps[] = {1, 1, 1, 1};
  CUtensorMap map{};
  const CUresult result = encode_function()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<bf16*>(m.at), extents, strides, box,
                                            steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) throw device_error("describing a tensor to the GPU: status " + std::to_string(static_cast<int>(result)));
  return map;
}

}  // namespace isthmus::kernels::cuda
