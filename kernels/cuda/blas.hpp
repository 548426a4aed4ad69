#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

struct cublasContext;

namespace isthmus::kernels::cuda {

/// A cuBLAS handle bound to one queue. The library is loaded when the first one is made, so that a program with this backend also
/// starts where there is no CUDA; throws device_error when it is not found.
struct blas_handle_deleter {
  void operator()(cublasContext* handle) const;
};
using blas_handle = std::unique_ptr<cublasContext, blas_handle_deleter>;
blas_handle make_blas_handle(cudaStream_t queue);
/// Whether the library can be loaded.
bool blas_is_there();

enum class blas_type { f32, b16 };

/// C = op(A) op(B) + beta C as BLAS has it: column-major, C [m, n], sums in fp32 (no TF32).
struct product_args {
  bool transpose_a, transpose_b;
  std::int64_t m, n, k;
  const void* a;
  std::int64_t a_stride;
  const void* b;
  std::int64_t b_stride;
  blas_type inputs;
  void* c;
  std::int64_t c_stride;
  blas_type result;
  float beta;
};
void multiply(const blas_handle& handle, const product_args& p);

}  // namespace isthmus::kernels::cuda
