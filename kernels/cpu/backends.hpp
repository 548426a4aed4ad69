#pragma once

#include "kernels/backend.hpp"
#include "kernels/cpu/gemm_library.hpp"
#include "kernels/cpu/int_product.hpp"
#include "kernels/cpu/pair_product.hpp"
#include "kernels/cpu/split_product.hpp"
#include "kernels/cpu/traits.hpp"

#include <utility>

namespace isthmus::kernels::cpu {

// One table for each instruction set; using one that the CPU lacks ends in an illegal instruction.
extern const backend generic_backend;
#if defined(__x86_64__)
extern const backend avx2_backend, avx512_backend;
#endif
/// The stream of all of them: keeps the code that a library generates for products, if there is one, and says whether fp32 products
/// are split for the matrix unit, whether activations are rounded to int8 beside int8 and int4 weights, whether bf16 weights lie as pairs,
/// and how those are multiplied.
class cpu_stream final : public stream {
public:
  explicit cpu_stream(team& t)
      : cpu_stream(t, make_gemm_library(t.size()), split_products_work(), int_products_work(), pair_products_work(),
                   this_cpu().fast_bf16_dots ? pair_way::dots : pair_way::widened) {}
  /// library may be null and the others off: our own kernels do all. They are on only where split_products_work() and so on.
  cpu_stream(team& t, std::unique_ptr<gemm_library> library, bool splitting, bool integers = false, bool pairs = false,
             pair_way way = pair_way::dots)
      : stream(t), products(std::move(library)), splits(splitting), int_products(integers), pair_products(pairs), way_of_pairs(way) {}
  bool dots_of_pairs() const { return pair_products && way_of_pairs == pair_way::dots; }
  const std::unique_ptr<gemm_library> products;
  const bool splits, int_products, pair_products;
  const pair_way way_of_pairs;
};
std::unique_ptr<stream> make_stream(team& t);

}  // namespace isthmus::kernels::cpu
