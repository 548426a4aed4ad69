#pragma once

#include "kernels/linear.hpp"
#include "kernels/team.hpp"

#include <cstddef>
#include <cstdint>

/// Products with int8 and int4 weights by AVX-512 VNNI, which sums four products of 8-bit integers at once.
///
/// Activations are rounded row by row: 32 neighbours share the scale max |x| / 127, in fp32, so each is off by at most half of that.
/// A group's sum is exact in int32, then times the two scales it is added in fp32, groups in ascending order.
namespace isthmus::kernels::cpu {

/// Whether this CPU has AVX-512 VNNI. The rest of this file needs true.
bool int_products_work();

/// y [rows, out] = x [rows, in] W^T, rows x_stride and y_stride apart. weights: W in grouped form (kernels/cpu/grouped_weights.hpp).
/// Uses the team's shared scratch. Act: float or bf16.
template <class Act>
void int_multiply(team& workers, weight_format format, const std::byte* weights, std::int64_t rows, std::int64_t out, std::int64_t in,
                  const Act* x, std::int64_t x_stride, Act* y, std::int64_t y_stride);

}  // namespace isthmus::kernels::cpu
