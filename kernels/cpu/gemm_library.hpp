#pragma once

#include "kernels/bf16.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace isthmus::kernels::cpu {

/// How the right operand b [k, n] lies.
enum class right_form {
  rows,    // [k, n]
  panels,  // [n / 64][round_up(k, 16)][64], zeros where k or n ends inside; b_stride is not read
  pairs,   // bf16 as kernels/cpu/pair_product.hpp has weights [n, k]; b_stride is not read
};
constexpr std::int64_t library_panel = 64, library_depth_unit = 16;

/// One product c = a b with operands in bf16 or fp32 and sums in fp32; the caller's memory may have any row strides.
struct gemm_call {
  std::int64_t m, n, k, a_stride, b_stride, c_stride;
  bool a_transposed;  // a is stored [k, m]
  right_form b_form;
  bool operands_are_bf16, c_is_bf16;  // else fp32
  bool adds;                          // c += a b; fp32 only
  bool operator==(const gemm_call&) const = default;
};

/// Products by a library that knows the CPU's matrix instructions (AMX, vdpbf16ps) and generates code for each shape. One thread a call:
/// our own tiles are what runs in parallel.
class gemm_library {
public:
  struct plan;  // generated code for one call
  virtual ~gemm_library() = default;
  /// Whether this CPU has bf16 instructions that the library knows.
  virtual bool knows_bf16() const = 0;
  /// Made once for each shape and kept until many others have been asked for; null when the library has only slow loops for it.
  /// Called by one thread at a time, outside tiles.
  virtual const plan* prepare(const gemm_call& call) = 0;
  /// By any worker in [0, workers), each one call at a time.
  virtual void run(const plan& p, const void* a, const void* b, void* c, int worker) const = 0;
};

/// Null when the library is missing from this build or knows no fast code for this CPU: then our own kernels do it, bf16 on rounded
/// operands.
std::unique_ptr<gemm_library> make_gemm_library(int workers);

/// "oneDNN 2.7.2 (avx512_core_amx)": the library of this build with version and instruction set, and who multiplies where it does not.
std::string describe_gemm_library();

}  // namespace isthmus::kernels::cpu
