#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

#include <algorithm>
#include <span>

namespace isthmus::kernels::reference {

template <class Act>
void rope(stream&, const rope_args<Act>& a) {
  const std::int64_t half = a.rotary / 2;
  for (std::int64_t r = 0; r < a.batch * a.length; ++r) {
    const real<Act>* cosine = a.cosine + r % a.length * half;
    const real<Act>* sine = a.sine + r % a.length * half;
    for (std::int64_t h = 0; h < a.heads; ++h) {
      Act* x = a.x + r * a.x_stride + h * a.head_dim;
      for (std::int64_t i = 0; i < half; ++i) {
        const real<Act> low = load(x[i]), high = load(x[half + i]), c = cosine[i], s = a.inverse ? -sine[i] : sine[i];
        x[i] = static_cast<Act>(low * c - high * s);
        x[half + i] = static_cast<Act>(high * c + low * s);
      }
    }
  }
}

namespace {

/// The keys [first, end) of its row that query i of row b sees.
struct key_range {
  std::int64_t first, end;
};
key_range keys_of(const attention_sight& sight, std::int64_t b, std::int64_t length, std::int64_t i) {
  if (!sight.causal) return {0, length};
  const std::int64_t document = sight.first_key ? sight.first_key[b * length + i] : 0;
  return {sight.window > 0 ? std::max(document, i + 1 - sight.window) : document, i + 1};
}

/// o = sum_j softmax_j(scale q . k_j) v_j over `count` keys; gives log sum_j exp(scale q . k_j). weights: [count], sum: [head_dim].
template <class Act, class Cache>
real<Act> attend(const Act* q, const Cache* k, const Cache* v, std::int64_t kv_stride, std::int64_t count, std::int64_t head_dim,
                 real<Act> scale, real<Act>* weights, real<Act>* sum, Act* o) {
  using R = real<Act>;
  for (std::int64_t j = 0; j < count; ++j) weights[j] = scale * dot(q, k + j * kv_stride, head_dim);
  const R top = *std::max_element(weights, weights + count);
  R total = 0;
  std::fill_n(sum, head_dim, R{0});
  for (std::int64_t j = 0; j < count; ++j) {
    const R weight = exp_of(weights[j] - top);
    total += weight;
    add_scaled<Cache>(sum, weight, v + j * kv_stride, head_dim);
  }
  for (std::int64_t c = 0; c < head_dim; ++c) o[c] = static_cast<Act>(sum[c] / total);
  return top + log_of(total);
}

}  // namespace

template <class Act>
void attention(stream& s, const attention_args<Act>& a) {
  real<Act>* weights = scratch<Act>(s, a.length + a.head_dim);
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t h = 0; h < a.heads; ++h) {
      const std::int64_t first = b * a.length, kv = h * a.kv_heads / a.heads * a.head_dim;
      for (std::int64_t i = 0; i < a.length; ++i) {
        const key_range seen = keys_of(a.sight, b, a.length, i);
        const std::int64_t at = (first + seen.first) * a.qkv_stride + kv;
        a.lse[(b * a.heads + h) * a.length + i] =
            attend(a.q + (first + i) * a.qkv_stride + h * a.head_dim, a.k + at, a.v + at, a.qkv_stride, seen.end - seen.first, a.head_dim,
                   a.scale, weights, weights + a.length, a.o + ((first + i) * a.heads + h) * a.head_dim);
      }
    }
  }
}

template <class Act, class Cache>
void attention_cached(stream& s, const attention_cached_args<Act, Cache>& a) {
  const std::int64_t stride = a.kv_heads * a.head_dim;
  for (const auto& one : std::span(a.sequences, static_cast<std::size_t>(a.count))) {
    real<Act>* weights = scratch<Act>(s, one.past + one.tokens + a.head_dim);
    for (std::int64_t t = 0; t < one.tokens; ++t)
      for (std::int64_t h = 0; h < a.heads; ++h) {
        const key_range seen = keys_of({.window = a.window}, 0, 0, one.past + t);
        const std::int64_t row = one.first + t, kv = seen.first * stride + h * a.kv_heads / a.heads * a.head_dim;
        attend(a.q + row * a.q_stride + h * a.head_dim, one.keys + kv, one.values + kv, stride, seen.end - seen.first, a.head_dim, a.scale,
               weights, weights + one.past + one.tokens, a.o + (row * a.heads + h) * a.head_dim);
      }
  }
}

namespace {

/// Adds head h of sequence b: to dk, dv [length, head_dim], and writes its dq. dot products again from q and k, P = exp(S - lse).
template <class Act>
void attention_head_backward(const attention_backward_args<Act>& a, std::int64_t b, std::int64_t h, real<Act>* dk, real<Act>* dv,
                             real<Act>* dq) {
  using R = real<Act>;
  const std::int64_t first = b * a.length, kv = h * a.kv_heads / a.heads * a.head_dim, dim = a.head_dim;
  for (std::int64_t i = 0; i < a.length; ++i) {
    const Act* q = a.q + (first + i) * a.qkv_stride + h * dim;
    const Act* d_o = a.d_o + ((first + i) * a.heads + h) * dim;
    const R mean = dot(d_o, a.o + ((first + i) * a.heads + h) * dim, dim);
    const R lse = a.lse[(b * a.heads + h) * a.length + i];
    std::fill_n(dq, dim, R{0});
    const key_range seen = keys_of(a.sight, b, a.length, i);
    for (std::int64_t j = seen.first; j < seen.end; ++j) {
      const Act* k = a.k + (first + j) * a.qkv_stride + kv;
      const R p = exp_of(a.scale * dot(q, k, dim) - lse);
      const R ds = a.scale * p * (dot(d_o, a.v + (first + j) * a.qkv_stride + kv, dim) - mean);
      add_scaled<Act>(dv + j * dim, p, d_o, dim);
      add_scaled<Act>(dk + j * dim, ds, q, dim);
      add_scaled<Act>(dq, ds, k, dim);
    }
    store(a.dq + (first + i) * a.d_qkv_stride + h * dim, dq, dim);
  }
}

}  // namespace

template <class Act>
void attention_backward(stream& s, const attention_backward_args<Act>& a) {
  const std::int64_t dim = a.head_dim, block = a.length * dim, per_kv = a.heads / a.kv_heads;
  real<Act>* dk = scratch<Act>(s, 2 * block + dim);
  real<Act>* dv = dk + block;
  for (std::int64_t b = 0; b < a.batch; ++b) {
    for (std::int64_t kv = 0; kv < a.kv_heads; ++kv) {
      std::fill_n(dk, 2 * block, real<Act>{0});
      for (std::int64_t h = kv * per_kv; h < (kv + 1) * per_kv; ++h) attention_head_backward(a, b, h, dk, dv, dv + block);
      for (std::int64_t i = 0; i < a.length; ++i) {
        const std::int64_t at = (b * a.length + i) * a.d_qkv_stride + kv * dim;
        store(a.dk + at, dk + i * dim, dim);
        store(a.dv + at, dv + i * dim, dim);
      }
    }
  }
}

#define ISTHMUS_FOR(Act)                                                          \
  template void rope(stream&, const rope_args<Act>&);                             \
  template void attention(stream&, const attention_args<Act>&);                   \
  template void attention_backward(stream&, const attention_backward_args<Act>&); \
  template void attention_cached(stream&, const attention_cached_args<Act>&);
template void attention_cached(stream&, const attention_cached_args<float, bf16>&);
template void attention_cached(stream&, const attention_cached_args<double, bf16>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
