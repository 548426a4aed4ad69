#include "kernels/cuda/blas.hpp"

#include "kernels/memory.hpp"

#include <cublas_v2.h>
#include <dlfcn.h>

#include <string>

namespace isthmus::kernels::cuda {

namespace {

// Written out, for C++ has an overload of the same name. cublas_api.h, cublasGemmEx.
using gemm_function = cublasStatus_t(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k, const void* alpha,
                                     const void* a, cudaDataType_t, int lda, const void* b, cudaDataType_t, int ldb, const void* beta,
                                     void* c, cudaDataType_t, int ldc, cublasComputeType_t, cublasGemmAlgo_t);

struct blas_library {
  decltype(&cublasCreate_v2) create;
  decltype(&cublasDestroy_v2) destroy;
  decltype(&cublasSetStream_v2) set_stream;
  gemm_function* gemm;
};

std::string name_of_library() { return "libcublas.so." + std::to_string(CUBLAS_VER_MAJOR); }

void* open_library() {
  static void* const library = [] {
    void* found = dlopen(name_of_library().c_str(), RTLD_NOW | RTLD_LOCAL);
    return found ? found : dlopen(("/usr/local/cuda/lib64/" + name_of_library()).c_str(), RTLD_NOW | RTLD_LOCAL);
  }();
  return library;
}

template <class F>
F symbol(void* library, const char* name) {
  void* found = dlsym(library, name);
  if (!found) throw device_error(name_of_library() + " has no " + name + ": is it of CUDA " + std::to_string(CUBLAS_VER_MAJOR) + "?");
  return reinterpret_cast<F>(found);
}

const blas_library& blas() {
  static const blas_library functions = [] {
    void* library = open_library();
    if (!library)
      throw device_error("products on the GPU need cuBLAS: " + name_of_library() +
                         " was found neither on the library path nor in /usr/local/cuda/lib64; install it (package libcublas) or set "
                         "LD_LIBRARY_PATH");
    return blas_library{
        symbol<decltype(&cublasCreate_v2)>(library, "cublasCreate_v2"), symbol<decltype(&cublasDestroy_v2)>(library, "cublasDestroy_v2"),
        symbol<decltype(&cublasSetStream_v2)>(library, "cublasSetStream_v2"), symbol<gemm_function*>(library, "cublasGemmEx")};
  }();
  return functions;
}

void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) throw device_error(std::string(what) + ": cuBLAS answered with status " + std::to_string(status));
}

cudaDataType_t type_of(blas_type t) { return t == blas_type::b16 ? CUDA_R_16BF : CUDA_R_32F; }

}  // namespace

void blas_handle_deleter::operator()(cublasContext* handle) const { blas().destroy(handle); }

blas_handle make_blas_handle(cudaStream_t queue) {
  cublasHandle_t handle = nullptr;
  check_blas(blas().create(&handle), "making a cuBLAS handle");
  blas_handle owned(handle);
  check_blas(blas().set_stream(handle, queue), "giving cuBLAS its queue");
  return owned;
}

bool blas_is_there() { return open_library() != nullptr; }

void multiply(const blas_handle& handle, const product_args& p) {
  if (p.m == 0 || p.n == 0 || (p.k == 0 && p.beta == 1)) return;
  const float one = 1;
  const auto extent = [](std::int64_t n) { return static_cast<int>(n); };
  check_blas(blas().gemm(handle.get(), p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N, extent(p.m),
                         extent(p.n), extent(p.k), &one, p.a, type_of(p.inputs), extent(p.a_stride), p.b, type_of(p.inputs),
                         extent(p.b_stride), &p.beta, p.c, type_of(p.result), extent(p.c_stride), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
             "a matrix product");
}

}  // namespace isthmus::kernels::cuda
