#pragma once

#include "kernels/linear.hpp"
#include "kernels/team.hpp"

#include <cstddef>
#include <cstdint>

/// How int8 and int4 weights lie in memory, so that a product with few rows reads them from one end to the other and one 64-byte load
/// serves 16 outputs.
///
/// A block is 16 outputs (rows of W), a unit is 64 inputs of a block: first the 2 x 16 bf16 scales of its two groups of 32 inputs
/// [group][output], then their steps. int8: for each group 8 vectors of 64 bytes; vector v holds, for output o, inputs 4v ... 4v + 3 in
/// bytes 4o ... 4o + 3, each step + 128. int4: for each group 4 vectors; the low halves of vector v's bytes hold inputs 8v ... 8v + 3,
/// the high halves 8v + 4 ... 8v + 7, each step + 8. Units of a block follow each other, then comes the next block. Where W ends inside
/// a block or a unit, scales and steps are zero.
namespace isthmus::kernels::cpu {

constexpr std::int64_t block_outputs = 16, unit_inputs = 64, scale_bytes = 64;

constexpr std::int64_t unit_bytes(weight_format format) { return scale_bytes + (format == weight_format::int8 ? 1024 : 512); }
constexpr std::int64_t units_of(std::int64_t in) { return (in + unit_inputs - 1) / unit_inputs; }
constexpr std::int64_t blocks_of(std::int64_t out) { return (out + block_outputs - 1) / block_outputs; }
/// Bytes of a block of `in` inputs.
constexpr std::int64_t block_bytes(std::int64_t in, weight_format format) { return units_of(in) * unit_bytes(format); }

/// The weights [out, in] quantised: `to` has blocks_of(out) * block_bytes(in, format) bytes, 64-byte aligned.
void group_weights(team& workers, const float* master, std::int64_t out, std::int64_t in, weight_format format, std::byte* to);

}  // namespace isthmus::kernels::cpu
