#pragma once

#include "kernels/bf16.hpp"

#include <cstdint>

namespace isthmus::kernels {

/// Mamba-2's state space dual form, Dao & Gu 2024, arXiv:2405.21060. Per head h with group g = h * groups / heads:
///   D_t = min(max(softplus(dt_t + dt_bias), dt_min), dt_max),  A = -exp(a_log)
///   S_t = exp(D_t A) S_{t-1} + D_t x_t b_t^T  [head_dim, state],  y_t = S_t c_t + d x_t
/// computed in chunks of `chunk` rows as matrix products; the last chunk of a sequence may be shorter. Decays, sums and states in
/// real<Act>; the exponent of a decay is never positive.
template <class Act>
struct ssd_args {
  const Act *x, *b, *c;                 // [batch * length, heads * head_dim | groups * state | groups * state], rows xbc_stride apart
  const Act* dt;                        // [batch * length, heads], rows dt_stride apart
  const real<Act>*dt_bias, *a_log, *d;  // [heads]
  Act* y;                               // [batch * length, heads * head_dim], contiguous
  real<Act>* states;                    // [batch, chunks, heads, head_dim, state]: S before each chunk, for the backward pass; or null
  const real<Act>* initial;             // [batch, heads, head_dim, state], or null for zero
  real<Act>* final;                     // the same shape, S after the last row; may alias initial; or null
  std::int64_t batch, length, heads, head_dim, groups, state, chunk, xbc_stride, dt_stride;
  real<Act> dt_min, dt_max;
};

/// dx, db, dc, d_dt overwrite; d_dt_bias, d_a_log, d_d add. Where D_t is clamped its gradient is zero.
/// The gradient of the final state enters by d_final; that of the initial one leaves by d_initial.
template <class Act>
struct ssd_backward_args {
  const Act *x, *b, *c, *dt;  // as in the forward pass
  const real<Act>*dt_bias, *a_log, *d;
  const Act *y, *dy;                    // [batch * length, heads * head_dim], contiguous; y as the forward pass wrote it
  const real<Act>* states;              // as the forward pass wrote them
  Act *dx, *db, *dc;                    // shaped as x, b, c, rows d_xbc_stride apart
  Act* d_dt;                            // [batch * length, heads], rows d_dt_stride apart
  real<Act>*d_dt_bias, *d_a_log, *d_d;  // [heads]
  const real<Act>* d_final;             // [batch, heads, head_dim, state], or null for zero
  real<Act>* d_initial;                 // the same shape, overwritten; may alias d_final; or null
  std::int64_t batch, length, heads, head_dim, groups, state, chunk, xbc_stride, dt_stride, d_xbc_stride, d_dt_stride;
  real<Act> dt_min, dt_max;
};

/// One token of one sequence: the recurrence itself.
template <class Act>
struct ssd_step_args {
  const Act *x, *b, *c, *dt;  // [heads * head_dim], [groups * state] twice, [heads]
  const real<Act>*dt_bias, *a_log, *d;
  real<Act>* s;  // [heads, head_dim, state], moved on by this token
  Act* y;        // [heads * head_dim]
  std::int64_t heads, head_dim, groups, state;
  real<Act> dt_min, dt_max;
};

}  // namespace isthmus::kernels
