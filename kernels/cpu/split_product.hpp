#pragma once

#include "kernels/team.hpp"

#include <cstddef>
#include <cstdint>

/// fp32 products out of bf16 parts, on CPUs whose matrix unit (AMX) multiplies bf16 at several times the speed of fp32 registers.
///
/// Each number is the sum of three bf16 numbers, a = a1 + a2 + a3: a1 is a rounded to nearest, a2 the rest rounded, a3 what is then
/// left, exactly. Of the nine products of parts the six of weight above 2^-24 are summed in fp32: first the small ones, a1 b3, a1 b2,
/// a2 b2, a2 b1, a3 b1, over up to 768 terms, then a1 b1 on top, so that the small ones are not lost at a large sum's last bit.
/// What is left out, a2 b3 + a3 b2 + a3 b3, is below 1.01 * 2^-24 of |a| |b|; the rest of the error is that of a plain fp32 sum.
/// Henry, Tang & Heinecke 2019, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations",
/// arXiv:1904.06376.
///
/// AMX takes denormal numbers as zero, parts too: precision falls below 24 bits for operands below 2^-102, and products below 2^-126
/// vanish. An operand that is infinite, NaN or beyond 3.38e38 (it rounds to infinity) makes every sum that it enters NaN or infinite.
namespace isthmus::kernels::cpu {

/// Whether this CPU has AMX with bf16 and the kernel lets this process use it. Asks once; the rest of this file needs true.
bool split_products_work();

/// Bytes of a right operand b [k, n] in parts.
std::size_t split_bytes(std::int64_t n, std::int64_t k);

/// b in parts, 64-byte aligned, from w [k, n], or from w [n, k] when it is transposed; rows lie `stride` apart.
void split_right(team& workers, const float* w, std::int64_t stride, bool transposed, std::int64_t n, std::int64_t k, std::byte* b);

/// y [rows, n] = x [rows, k] b.
void split_multiply(team& workers, std::int64_t rows, std::int64_t n, std::int64_t k, const float* x, std::int64_t x_stride,
                    const std::byte* b, float* y, std::int64_t y_stride);

/// Bytes of memory for split_backward_weight.
std::size_t split_backward_bytes(std::int64_t rows, std::int64_t in);

/// dw [out, in] += dy^T x; memory is 64-byte aligned and outside the team's scratch of workers.
void split_backward_weight(team& workers, std::int64_t rows, std::int64_t out, std::int64_t in, const float* dy, std::int64_t dy_stride,
                           const float* x, std::int64_t x_stride, std::byte* memory, float* dw);

}  // namespace isthmus::kernels::cpu
