#include "framework/layers/attention.hpp"

#include "framework/core/error.hpp"

#include <algorithm>
#include <cmath>

namespace isthmus {

template <class Act>
attention_layer<Act>::attention_layer(const model_config& config, const kernels::op_table<Act>& ops,
                                      const parameter_view<kernels::real<Act>>& parameters, const std::string& prefix)
    : heads_(config.n_heads),
      kv_heads_(config.n_kv_heads),
      head_dim_(config.head_dim),
      qkv_width_((config.n_heads + 2 * config.n_kv_heads) * config.head_dim),
      scale_(1 / std::sqrt(static_cast<kernels::real<Act>>(config.head_dim))),
      qkv_proj_(ops, parameters, {prefix + "q_proj.weight", prefix + "k_proj.weight", prefix + "v_proj.weight"}),
      o_proj_(ops, parameters, {prefix + "o_proj.weight"}) {}

template <class Act>
void attention_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  const std::int64_t rows = batch * length;
  qkv_ = kept.take<Act>(rows * qkv_width_);
  o_ = kept.take<Act>(rows * heads_ * head_dim_);
  lse_ = kept.take<kernels::real<Act>>(rows * heads_);
  d_qkv_ = shared.take<Act>(rows * qkv_width_);
  d_o_ = shared.take<Act>(rows * heads_ * head_dim_);
}

template <class Act>
void attention_layer<Act>::rotate(const layer_pass<Act>& p, Act* qkv, bool inverse) const {
  p.ops.rope(p.stream, {.x = qkv,
                        .cosine = p.cosine,
                        .sine = p.sine,
                        .batch = p.batch,
                        .length = p.length,
                        .heads = heads_ + kv_heads_,
                        .head_dim = head_dim_,
                        .x_stride = qkv_width_,
                        .inverse = inverse});
}

template <class Act>
void attention_layer<Act>::attend(const layer_pass<Act>& p) const {
  p.ops.attention(p.stream, {.q = qkv_,
                             .k = qkv_ + heads_ * head_dim_,
                             .v = qkv_ + (heads_ + kv_heads_) * head_dim_,
                             .o = o_,
                             .lse = lse_,
                             .batch = p.batch,
                             .length = p.length,
                             .heads = heads_,
                             .kv_heads = kv_heads_,
                             .head_dim = head_dim_,
                             .qkv_stride = qkv_width_,
                             .scale = scale_});
}

template <class Act>
void attention_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  qkv_proj_.forward(p, x, qkv_);
  rotate(p, qkv_, false);
  attend(p);
  o_proj_.forward(p, o_, y);
}

template <class Act>
void attention_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  o_proj_.backward(p, o_, dy, d_o_);
  const std::int64_t k = heads_ * head_dim_, v = (heads_ + kv_heads_) * head_dim_;
  p.ops.attention_backward(p.stream, {.q = qkv_,
                                      .k = qkv_ + k,
                                      .v = qkv_ + v,
                                      .o = o_,
                                      .d_o = d_o_,
                                      .lse = lse_,
                                      .dq = d_qkv_,
                                      .dk = d_qkv_ + k,
                                      .dv = d_qkv_ + v,
                                      .batch = p.batch,
                                      .length = p.length,
                                      .heads = heads_,
                                      .kv_heads = kv_heads_,
                                      .head_dim = head_dim_,
                                      .qkv_stride = qkv_width_,
                                      .d_qkv_stride = qkv_width_,
                                      .scale = scale_});
  rotate(p, d_qkv_, true);
  qkv_proj_.backward(p, x, d_qkv_, dx);
}

template <class Act>
void attention_layer<Act>::advance(const layer_pass<Act>& p, std::int64_t position, layer_state& state, const Act* x, Act* y) {
  ensure(p.batch == 1, "attention: a state is of one sequence");
  qkv_proj_.forward(p, x, qkv_);
  rotate(p, qkv_, false);
  const std::int64_t kv_width = kv_heads_ * head_dim_;
  const auto bytes = static_cast<std::size_t>((position + p.length) * kv_width) * sizeof(Act);
  state.keys.resize(bytes);
  state.values.resize(bytes);
  auto* keys = reinterpret_cast<Act*>(state.keys.data());
  auto* values = reinterpret_cast<Act*>(state.values.data());
  for (std::int64_t t = 0; t < p.length; ++t) {
    const Act* k = qkv_ + t * qkv_width_ + heads_ * head_dim_;
    std::copy_n(k, kv_width, keys + (position + t) * kv_width);
    std::copy_n(k + kv_width, kv_width, values + (position + t) * kv_width);
  }
  if (position == 0 && p.length > 1)
    attend(p);
  else
    p.ops.attention_cached(p.stream, {.q = qkv_,
                                      .keys = keys,
                                      .values = values,
                                      .o = o_,
                                      .tokens = p.length,
                                      .past = position,
                                      .heads = heads_,
                                      .kv_heads = kv_heads_,
                                      .head_dim = head_dim_,
                                      .q_stride = qkv_width_,
                                      .scale = scale_});
  o_proj_.forward(p, o_, y);
}

template <class Act>
void attention_layer<Act>::weights_changed() {
  qkv_proj_.matrix()->weights_changed();
  o_proj_.matrix()->weights_changed();
}

template class attention_layer<float>;
template class attention_layer<kernels::bf16>;
template class attention_layer<double>;

}  // namespace isthmus
