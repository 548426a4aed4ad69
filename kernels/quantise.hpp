#pragma once

#include "kernels/linear.hpp"

#include <cstdint>

namespace isthmus::kernels {

/// Neighbours along a row of a weight matrix that share a scale; the last group of a row may be shorter.
constexpr std::int64_t quantised_group = 32;

/// A group in a format of integers: weight k becomes steps[k] * scale, exactly so in fp32.
struct quantised_weights {
  std::int8_t steps[quantised_group];  // int8: -127 ... 127; int4: -8 ... 7; zeros behind the last weight
  bf16 scale;
};

/// What every backend makes of n <= 32 finite weights, to the bit.
/// int8: scale = max |w| / 127, error at most scale / 2. int4: scale = -m / 8, m the weight of the largest magnitude (the first of
/// several), so that m itself is met best; error at most |scale| / 2, or |scale| for weights beyond 7 scale, which end there. The scale
/// is rounded to bf16 away from zero, steps to the nearest, ties to even. format: int8 or int4.
quantised_weights quantise(const float* w, std::int64_t n, weight_format format);

/// to[k] = what the format makes of w[k]; to may alias w. n <= 32, format not master.
void through_format(const float* w, std::int64_t n, weight_format format, float* to);

}  // namespace isthmus::kernels
