#include "kernels/cpu/gemm_library.hpp"

namespace isthmus::kernels::cpu {

std::unique_ptr<gemm_library> make_gemm_library(int) { return nullptr; }

std::string describe_gemm_library() { return "own kernels"; }

}  // namespace isthmus::kernels::cpu
