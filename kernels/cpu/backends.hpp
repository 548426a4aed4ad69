#pragma once

#include "kernels/backend.hpp"
#include "kernels/cpu/gemm_library.hpp"

#include <utility>

namespace isthmus::kernels::cpu {

// One table for each instruction set; using one that the CPU lacks ends in an illegal instruction.
extern const backend generic_backend;
#if defined(__x86_64__)
extern const backend avx2_backend, avx512_backend;
#endif
/// The stream of all of them: keeps the code that a library generates for products, if there is one.
class cpu_stream final : public stream {
public:
  explicit cpu_stream(team& t) : cpu_stream(t, make_gemm_library(t.size())) {}
  /// library may be null: our own kernels do all.
  cpu_stream(team& t, std::unique_ptr<gemm_library> library) : stream(t), products(std::move(library)) {}
  const std::unique_ptr<gemm_library> products;
};
std::unique_ptr<stream> make_stream(team& t);

}  // namespace isthmus::kernels::cpu
