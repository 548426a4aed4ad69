#pragma once

#include "kernels/bf16.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace isthmus::kernels::cpu {

/// One product c = a b with bf16 operands and sums in fp32; the caller's memory may have any row strides.
struct bf16_call {
  std::int64_t m, n, k, a_stride, b_stride, c_stride;
  bool a_transposed;  // a is stored [k, m]
  bool b_transposed;  // b is stored [n, k]
  bool c_is_bf16;     // else fp32
  bool adds;          // c += a b; fp32 only
  bool operator==(const bf16_call&) const = default;
};

/// bf16 products by a library that knows the CPU's matrix instructions (AMX, vdpbf16ps). One thread a call: our own tiles are what
/// runs in parallel.
class bf16_gemm {
public:
  struct plan;  // generated code for one call
  virtual ~bf16_gemm() = default;
  /// Made once for each shape and kept. Called by one thread at a time, outside tiles.
  virtual const plan& prepare(const bf16_call& call) = 0;
  /// By any worker in [0, workers), each one call at a time.
  virtual void run(const plan& p, const void* a, const void* b, void* c, int worker) const = 0;
};

/// Null when the library is missing from this build or this CPU has no bf16 instructions: then fp32 kernels work on rounded operands.
std::unique_ptr<bf16_gemm> make_bf16_gemm(int workers);

}  // namespace isthmus::kernels::cpu
