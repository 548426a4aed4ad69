#pragma once

#include "kernels/bf16.hpp"

#include <cstdint>

namespace isthmus::kernels {

/// x = residual + branch (x = residual when branch is null); y[r,c] = x[r,c] * gain[c] * rstd[r],
/// rstd[r] = 1 / sqrt(mean_c x[r,c]^2 + eps). The residual stream stays in real<Act>.
/// Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4, with eps added.
template <class Act>
struct rms_norm_args {
  const real<Act>* residual;  // [rows, cols]
  const Act* branch;          // [rows, cols], or null
  const real<Act>* gain;      // [cols]
  real<Act>* x;               // [rows, cols], written only if branch is given; may alias residual
  Act* y;                     // [rows, cols]
  real<Act>* rstd;            // [rows], kept for the backward pass
  std::int64_t rows, cols;
  real<Act> eps;  // > 0
};

/// dx = d_residual + rstd * gain * dy - x * rstd^3 / cols * sum_c(gain * dy * x): the gradient of x, hence of residual and branch.
/// d_gain += sum_r dy * x * rstd.
template <class Act>
struct rms_norm_backward_args {
  const Act* dy;                // [rows, cols]
  const real<Act>* x;           // [rows, cols], what the forward pass normalised
  const real<Act>* gain;        // [cols]
  const real<Act>* rstd;        // [rows]
  const real<Act>* d_residual;  // [rows, cols], the gradient that reaches x past the norm, or null
  real<Act>* dx;                // [rows, cols]; may alias d_residual
  Act* d_branch;                // [rows, cols]: dx rounded to Act, or null
  real<Act>* d_gain;            // [cols]
  std::int64_t rows, cols;
};

/// The same norm over some columns of wider rows: y[r,c] = x[r,c] * gain[c] / sqrt(mean_c x[r,c]^2 + eps).
template <class Act>
struct column_norm_args {
  const Act* x;           // [rows, cols], rows x_stride apart
  const real<Act>* gain;  // [cols]
  Act* y;                 // [rows, cols], rows y_stride apart; may alias x where they have its stride
  std::int64_t rows, cols, x_stride, y_stride;
  real<Act> eps;  // > 0
};

/// dx overwrites; d_gain adds.
template <class Act>
struct column_norm_backward_args {
  const Act* dy;          // [rows, cols], rows dy_stride apart
  const Act* x;           // [rows, cols], rows x_stride apart
  const real<Act>* gain;  // [cols]
  Act* dx;                // [rows, cols], rows dx_stride apart; may alias dy where they have its stride
  real<Act>* d_gain;      // [cols]
  std::int64_t rows, cols, dy_stride, x_stride, dx_stride;
  real<Act> eps;
};

/// Mamba-2's norm: v = y * silu(z), the gate before the norm; out = v * gain * rstd with one rstd per row and group of
/// cols / groups channels. Dao & Gu 2024, arXiv:2405.21060.
template <class Act>
struct gated_norm_args {
  const Act* y;           // [rows, cols]
  const Act* z;           // [rows, cols], rows z_stride apart
  const real<Act>* gain;  // [cols]
  Act* out;               // [rows, cols]; may alias y
  real<Act>* rstd;        // [rows, groups]
  std::int64_t rows, cols, groups, z_stride;
  real<Act> eps;
};

/// dy and dz overwrite; d_gain adds.
template <class Act>
struct gated_norm_backward_args {
  const Act* d_out;       // [rows, cols]
  const Act* y;           // [rows, cols]
  const Act* z;           // [rows, cols], rows z_stride apart
  const real<Act>* gain;  // [cols]
  const real<Act>* rstd;  // [rows, groups]
  Act* dy;                // [rows, cols]; may alias d_out
  Act* dz;                // [rows, cols], rows dz_stride apart; no alias
  real<Act>* d_gain;      // [cols]
  std::int64_t rows, cols, groups, z_stride, dz_stride;
};

}  // namespace isthmus::kernels
