#pragma once

#include "framework/layers/pass.hpp"

#include <cstdint>

namespace isthmus {

/// The gated delta rule, Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464, eq. 10, with its output norm. Per head, k and q of unit length, q
/// divided by sqrt(key_dim); b = sigmoid(beta_t), a = exp(-exp(a_log) softplus(alpha_t + dt_bias)):
///   P = a S_{t-1},  S_t = P + k (b (v - P^T k))^T  [key_dim, value_dim],  o = S_t^T q,  y = rms_norm(o) gain silu(z)
/// Arithmetic in real<Act>; the recurrence itself, row by row, a tile a head of a sequence.
template <class Act>
struct delta_rule_args {
  using real = kernels::real<Act>;
  const Act* qkv;                      // [batch * length, heads * (2 key_dim + value_dim)]: all q, all k, all v
  const Act *z, *beta, *alpha;         // [batch * length, heads * value_dim | heads | heads], rows stride apart
  const real *a_log, *dt_bias, *gain;  // [heads], [heads], [value_dim]
  Act* y;                              // [batch * length, heads * value_dim]
  real* states;                        // [batch, heads, chunks, key_dim, value_dim]: S before each chunk; or null
  real* state;                         // [batch, heads, key_dim, value_dim]: S, read and moved on; or null: zero
  std::int64_t batch, length, heads, key_dim, value_dim, chunk, stride;
  real eps;

  std::int64_t qkv_width() const { return heads * (2 * key_dim + value_dim); }
  std::int64_t size() const { return key_dim * value_dim; }
  std::int64_t chunks() const { return (length + chunk - 1) / chunk; }
};

template <class Act>
struct delta_rule_gradients {
  using real = kernels::real<Act>;
  const Act* dy;                       // [batch * length, heads * value_dim]
  Act *d_qkv, *dz, *d_beta, *d_alpha;  // overwritten; d_qkv shaped as qkv, the others with rows stride apart
  real *d_a_log, *d_dt_bias, *d_gain;  // added to
  const real* d_final;                 // [batch, heads, key_dim, value_dim]: the gradient of the final state, or null for zero
  real* d_initial;                     // the same shape, overwritten: that of the initial one; may alias d_final; or null
};

template <class Act>
void delta_rule(kernels::stream& s, const delta_rule_args<Act>& a);
/// After delta_rule with the same arguments and `states`.
template <class Act>
void delta_rule_backward(kernels::stream& s, const delta_rule_args<Act>& a, const delta_rule_gradients<Act>& g);

}  // namespace isthmus
