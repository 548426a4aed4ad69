#pragma once

#include <cstdint>

namespace isthmus::kernels {

/// Consecutive elements that share a weight decay.
struct decay_extent {
  std::int64_t offset, count;
  float decay;  // decoupled: w -= rate * decay * w
};

/// One AdamW step over extents of flat arrays; elements outside stay untouched. With g = gradients * gradient_scale:
/// m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2;
/// w <- w - rate * (m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps) + decay * w). Loshchilov & Hutter 2017, arXiv:1711.05101.
/// Element by element, so any cut of the arrays gives the same bits.
struct adamw_args {
  float *weights, *first, *second;
  float* gradients;
  const decay_extent* extents;  // the host's; ascending, inside the arrays
  std::int64_t n_extents;
  float rate, beta1, beta2, eps, gradient_scale;
  float correction1, correction2;  // 1 - beta1^step, 1 - beta2^step
  bool clear_gradients;            // zero them in the same pass
};

/// Sum of squares of values[0, count) in a fixed order: blocks of 4096, each summed in double, the sums added in ascending order.
struct sum_of_squares_args {
  const float* values;
  std::int64_t count;
  double* sum;  // the host's; overwritten when the call returns
};

}  // namespace isthmus::kernels
