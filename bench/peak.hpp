#pragma once

#include "kernels/team.hpp"

#include <cstddef>
#include <span>

namespace isthmus::bench {

enum class peak_kind { fp32_fma, bf16_dot, int8_dot };

/// What one core's registers can do, in FLOP per second of CPU time: independent fused multiply-adds on registers alone, of the widest
/// kind that the CPU has; median of many short slices. 0 when the CPU has no such instruction (bf16, int8).
double register_peak(peak_kind kind);

/// The kind of instruction that multiplies bf16 numbers fastest here: dot products of pairs, or fp32 on widened numbers, which on some
/// CPUs has twice their rate.
peak_kind fastest_for_bf16();

/// "fp32 fma, 512 bit" and so on.
const char* peak_name(peak_kind kind);

/// Bytes a second of the given clock at which the team reads memory once, from one end to the other: the fastest of some passes. Of huge
/// pages, larger than the caches, it is what decoding cannot pass.
double read_rate(kernels::team& workers, std::span<const std::byte> memory, double (*clock)());

}  // namespace isthmus::bench
