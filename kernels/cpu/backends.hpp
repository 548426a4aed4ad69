#pragma once

#include "kernels/backend.hpp"
#include "kernels/cpu/gemm_library.hpp"
#include "kernels/cpu/split_product.hpp"

#include <utility>

namespace isthmus::kernels::cpu {

// One table for each instruction set; using one that the CPU lacks ends in an illegal instruction.
extern const backend generic_backend;
#if defined(__x86_64__)
extern const backend avx2_backend, avx512_backend;
#endif
/// The stream of all of them: keeps the code that a library generates for products, if there is one, and says whether fp32 products
/// are split for the matrix unit.
class cpu_stream final : public stream {
public:
  explicit cpu_stream(team& t) : cpu_stream(t, make_gemm_library(t.size()), split_products_work()) {}
  /// library may be null and splitting off: our own kernels do all. Splitting is on only where split_products_work().
  cpu_stream(team& t, std::unique_ptr<gemm_library> library, bool splitting) : stream(t), products(std::move(library)), splits(splitting) {}
  const std::unique_ptr<gemm_library> products;
  const bool splits;
};
std::unique_ptr<stream> make_stream(team& t);

}  // namespace isthmus::kernels::cpu
