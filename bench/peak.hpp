#pragma once

namespace isthmus::bench {

enum class peak_kind { fp32_fma, bf16_dot };

/// What one core's registers can do, in FLOP per second of CPU time: independent fused multiply-adds on registers alone, of the widest
/// kind that the CPU has; median of many short slices. 0 when the CPU has no such instruction (bf16).
double register_peak(peak_kind kind);

/// "fp32 fma, 512 bit" and so on.
const char* peak_name(peak_kind kind);

}  // namespace isthmus::bench
