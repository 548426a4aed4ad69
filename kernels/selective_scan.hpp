#pragma once

#include "kernels/bf16.hpp"

#include <cstdint>

namespace isthmus::kernels {

constexpr std::int64_t selective_scan_state_max = 64;

/// Mamba-1's selective scan, Gu & Dao 2023, arXiv:2312.00752, algorithm 2, with its gate. For channel e and n < state:
///   D_t = softplus(dt_t[e] + dt_bias[e]),  A = -exp(a_log[e,n])
///   h_t[e,n] = exp(D_t A) h_{t-1}[e,n] + D_t B_t[n] x_t[e]
///   y_t[e] = (sum_n C_t[n] h_t[e,n] + d[e] x_t[e]) silu(z_t[e]), without silu(z) where z is null
/// All but reads and writes in real<Act>; the exponent is never positive. 1 <= state <= selective_scan_state_max, chunk >= 1.
template <class Act>
struct selective_scan_args {
  const Act *x, *dt, *b, *c, *z;        // [batch * length, channels | channels | state | state | channels], rows *_stride apart
  const real<Act>*dt_bias, *a_log, *d;  // [channels], [channels, state], [channels]
  Act* y;                               // [batch * length, channels], contiguous
  real<Act>* states;                    // [batch, chunks, channels, state]: h before each chunk of rows, for the backward pass; or null
  const real<Act>* initial;             // [batch, channels, state], or null for zero
  real<Act>* final;                     // the same shape, h after the last row; may alias initial; or null
  std::int64_t batch, length, channels, state, chunk, x_stride, dt_stride, bc_stride, z_stride;
};

/// dx, d_dt, db, dc, dz overwrite; d_dt_bias, d_a_log, d_d add. h is computed again from `states`, so that y is not needed.
/// The gradient of the final state enters by d_final; that of the initial one leaves by d_initial.
template <class Act>
struct selective_scan_backward_args {
  const Act *x, *dt, *b, *c, *z;  // as in the forward pass
  const real<Act>*dt_bias, *a_log, *d;
  const Act* dy;                        // [batch * length, channels], contiguous
  const real<Act>* states;              // as the forward pass wrote them
  Act *dx, *d_dt, *db, *dc, *dz;        // shaped as x, dt, b, c, z, rows d*_stride apart; dz is null where z is
  real<Act>*d_dt_bias, *d_a_log, *d_d;  // [channels], [channels, state], [channels]
  const real<Act>* d_final;             // [batch, channels, state], or null for zero
  real<Act>* d_initial;                 // the same shape, overwritten; may alias d_final; or null
  std::int64_t batch, length, channels, state, chunk, x_stride, dt_stride, bc_stride, z_stride;
  std::int64_t dx_stride, d_dt_stride, d_bc_stride, dz_stride;
};

/// One token of one sequence: the recurrence itself.
template <class Act>
struct selective_scan_step_args {
  const Act *x, *dt, *b, *c, *z;  // [channels] twice, [state] twice, [channels] or null
  const real<Act>*dt_bias, *a_log, *d;
  real<Act>* h;  // [channels, state], moved on by this token
  Act* y;        // [channels]
  std::int64_t channels, state;
};

}  // namespace isthmus::kernels
