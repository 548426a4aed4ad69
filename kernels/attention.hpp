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

/// Which keys a query sees. Tiles out of sight are skipped. As it stands query i sees keys 0 ... i.
struct attention_sight {
  bool causal = true;       // else every query sees all keys of its row: window is 0 then, first_key null
  std::int64_t window = 0;  // of the keys up to its own a query sees the last so many; 0: all. Jiang et al. 2023, arXiv:2310.06825
  /// [batch * length], or null: the place in the row where the document begins that the token is in, at most the token's own place and
  /// nondecreasing within a row. A query sees no key before it.
  const std::int32_t* first_key = nullptr;
  /// Queries before this row of each sequence ask for nothing: their o and lse may be left as they are, and going back their d_o is zero.
  std::int64_t first_query = 0;

  bool plain() const { return causal && window == 0 && first_key == nullptr; }
};

/// Grouped-query attention: o_i = sum_j softmax_j(scale q_i . k_j) v_j over the keys in sight, head h reading kv head h * kv_heads / heads.
/// Tiled, only lse is kept: never a length x length buffer. Dao 2023, arXiv:2307.08691.
template <class Act>
struct attention_args {
  const Act *q, *k, *v;  // [batch * length, heads | kv_heads | kv_heads, head_dim], rows qkv_stride apart (one matrix's columns)
  Act* o;                // [batch * length, heads, head_dim], contiguous
  real<Act>* lse;        // [batch, heads, length]: log sum_j exp(scale q_i . k_j)
  std::int64_t batch, length, heads, kv_heads, head_dim, qkv_stride;
  real<Act> scale;
  attention_sight sight = {};
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
  attention_sight sight = {};  // as in the forward pass
};

/// In which numbers a sequence's keys and values are kept. bf16: half the memory of fp32, each rounded once.
enum class cache_format { activations, bf16 };

/// A sequence among those that attend to their caches: which rows of q and o are its own, and its cache, where the caller has stored the
/// new keys (rotated) and values.
template <class Cache>
struct cached_sequence {
  std::int64_t first, tokens;  // rows of q and o
  std::int64_t past;           // rows of the cache before those of these tokens
  const Cache *keys, *values;  // [at least past + tokens, kv_heads, head_dim], contiguous
};

/// Sequences, each against its cache: query t of one is row past + t of its cache and sees rows 0 ... past + t, its own row included, or the
/// last `window` of them.
template <class Act, class Cache = Act>
struct attention_cached_args {
  const Act* q;                             // [rows, heads, head_dim], rows q_stride apart, rotated
  Act* o;                                   // [rows, heads, head_dim], contiguous
  const cached_sequence<Cache>* sequences;  // [count], the host's
  std::int64_t count, heads, kv_heads, head_dim, q_stride;
  real<Act> scale;
  std::int64_t window = 0;  // 0: all
};

}  // namespace isthmus::kernels
