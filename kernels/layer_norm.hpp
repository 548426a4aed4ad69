#pragma once

#include "kernels/bf16.hpp"

#include <cstdint>

namespace isthmus::kernels {

/// x = residual + branch, or the one of them that is not null; y[r,c] = (x[r,c] - mean[r]) * rstd[r] * gain[c] + bias[c],
/// rstd[r] = 1 / sqrt(variance of row r + eps). The residual stream stays in real<Act>. Ba et al. 2016, arXiv:1607.06450.
template <class Act>
struct layer_norm_args {
  const real<Act>* residual;  // [rows, cols], or null
  const Act* branch;          // [rows, cols], or null
  const real<Act>* gain;      // [cols]
  const real<Act>* bias;      // [cols]
  real<Act>* x;               // [rows, cols], written only if branch is given; may alias residual
  Act* y;                     // [rows, cols]
  real<Act>* mean;            // [rows], kept for the backward pass
  real<Act>* rstd;            // [rows], likewise
  std::int64_t rows, cols;
  real<Act> eps;  // > 0
};

/// With n = (x - mean) rstd and g = gain * dy: dx = d_residual + rstd * (g - mean_c g - n * mean_c(g n)): the gradient of x, hence of residual
/// and branch. d_gain += sum_r dy n, d_bias += sum_r dy.
template <class Act>
struct layer_norm_backward_args {
  const Act* dy;                // [rows, cols]
  const real<Act>* x;           // [rows, cols], what the forward pass normalised
  const real<Act>* gain;        // [cols]
  const real<Act>* mean;        // [rows]
  const real<Act>* rstd;        // [rows]
  const real<Act>* d_residual;  // [rows, cols], the gradient that reaches x past the norm, or null
  real<Act>* dx;                // [rows, cols]; may alias d_residual
  Act* d_branch;                // [rows, cols]: dx rounded to Act, or null
  real<Act>* d_gain;            // [cols]
  real<Act>* d_bias;            // [cols]
  std::int64_t rows, cols;
};

/// y[r,c] += bias[c].
template <class Act>
struct bias_args {
  const real<Act>* bias;  // [cols]
  Act* y;                 // [rows, cols], rows y_stride apart
  std::int64_t rows, cols, y_stride;
};

/// d_bias[c] += sum_r dy[r,c].
template <class Act>
struct bias_backward_args {
  const Act* dy;      // [rows, cols], rows dy_stride apart
  real<Act>* d_bias;  // [cols]
  std::int64_t rows, cols, dy_stride;
};

}  // namespace isthmus::kernels
