#pragma once

#include "kernels/bf16.hpp"

#include <cstdint>

namespace isthmus::kernels {

/// Rotary positions in place, the two halves of a head's first `rotary` columns rotated against each other (as Hugging Face's Llama): for
/// i < half = rotary / 2, (x[i], x[i + half]) <- (x[i] cos - x[i + half] sin, x[i + half] cos + x[i] sin). Su et al. 2021, arXiv:2104.09864.
template <class Act>
struct rope_args {
  Act* x;                                                         // [batch * length, heads, head_dim], rows x_stride apart
  const real<Act>* cosine;                                        // [length, rotary / 2], of the position of row r % length
  const real<Act>* sine;                                          // the same
  std::int64_t batch, length, heads, head_dim, rotary, x_stride;  // rotary <= head_dim, even
  bool inverse;                                                   // by the negative angle: the backward pass
};

/// Causal grouped-query attention: o_i = sum_{j <= i} softmax_j(scale q_i . k_j) v_j, head h reading kv head h * kv_heads / heads.
/// Tiled, only lse is kept: never a length x length buffer. Dao 2023, arXiv:2307.08691.
template <class Act>
struct attention_args {
  const Act *q, *k, *v;  // [batch * length, heads | kv_heads | kv_heads, head_dim], rows qkv_stride apart (one matrix's columns)
  Act* o;                // [batch * length, heads, head_dim], contiguous
  real<Act>* lse;        // [batch, heads, length]: log sum_j exp(scale q_i . k_j)
  std::int64_t batch, length, heads, kv_heads, head_dim, qkv_stride;
  real<Act> scale;
};

/// dq, dk, dv overwrite.
template <class Act>
struct attention_backward_args {
  const Act *q, *k, *v;  // as in the forward pass
  const Act *o, *d_o;    // [batch * length, heads, head_dim], contiguous
  const real<Act>* lse;  // [batch, heads, length]
  Act *dq, *dk, *dv;     // shaped as q, k, v, rows d_qkv_stride apart
  std::int64_t batch, length, heads, kv_heads, head_dim, qkv_stride, d_qkv_stride;
  real<Act> scale;
};

/// One sequence against its cache: query t sits at position past + t and sees cache rows 0 ... past + t, its own row included.
/// The caller has stored the new keys (rotated) and values.
template <class Act>
struct attention_cached_args {
  const Act* q;              // [tokens, heads, head_dim], rows q_stride apart, rotated
  const Act *keys, *values;  // [at least past + tokens, kv_heads, head_dim], contiguous
  Act* o;                    // [tokens, heads, head_dim], contiguous
  std::int64_t tokens, past, heads, kv_heads, head_dim, q_stride;
  real<Act> scale;
};

}  // namespace isthmus::kernels
