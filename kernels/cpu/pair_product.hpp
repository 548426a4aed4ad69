#pragma once

#include "kernels/team.hpp"

#include <cstddef>
#include <cstdint>

/// Products with bf16 weights, sums in fp32: by AVX-512 BF16, which sums two products of bf16 numbers at once, or by fp32 on widened
/// weights.
///
/// Weights [out, in] lie as pairs of inputs, [out / 64][in / 32][16 pairs][64 outputs][2], zeros where W ends inside: a product with few
/// rows reads them from one end to the other, and a library multiplies many rows with the same ones.
namespace isthmus::kernels::cpu {

/// Whether this CPU has AVX-512 BF16. The rest of this file needs true.
bool pair_products_work();

constexpr std::int64_t pair_outputs = 64, pair_inputs = 32;  // that the weights are filled up to

/// Bytes of weights [out, in] as pairs.
std::size_t pair_bytes(std::int64_t out, std::int64_t in);

/// The weights [out, in], rounded: `to` has pair_bytes(out, in) bytes, 64-byte aligned.
void pair_weights(team& workers, const float* master, std::int64_t out, std::int64_t in, std::byte* to);
/// Their transpose [in, out], the right operand of dy W: pair_bytes(in, out) bytes.
void pair_weights_transposed(team& workers, const float* master, std::int64_t out, std::int64_t in, std::byte* to);

/// dots: activations are rounded to bf16, and denormal numbers count as zero. widened: neither. What is faster, this_cpu() knows.
enum class pair_way { dots, widened };

/// y [rows, out] = x [rows, in] W^T, rows x_stride and y_stride apart. Meant for few rows: each worker holds a panel of 64 outputs against all
/// of them. Uses the team's shared scratch. Act: float or bf16.
template <class Act>
void pair_multiply(team& workers, pair_way way, const std::byte* weights, std::int64_t rows, std::int64_t out, std::int64_t in,
                   const Act* x, std::int64_t x_stride, Act* y, std::int64_t y_stride);

}  // namespace isthmus::kernels::cpu
