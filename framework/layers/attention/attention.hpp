#pragma once

#include "framework/layers/layer_kind.hpp"

namespace isthmus {

/// Causal grouped-query attention with rotary positions: q, k, v from one product, o = attention(rope(q), rope(k), v), y = o W_o^T. Its state
/// holds the keys, rotated, and the values of every token, [tokens, kv_heads * head_dim] in the activation type; with a window those of the
/// last tokens alone (state_part::drop_unseen).
template <class Act>
class attention_layer final : public layer<Act> {
public:
  attention_layer(const layer_shape& shape, const layer_parts<Act>& parts);
  void place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) override;
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) override;
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) override;
  void advance(const layer_pass<Act>& p, std::span<const moving_sequence> sequences, const Act* x, Act* y) override;
  layer_state start() const override;
  void weights_changed() override;

private:
  void rotate(const layer_pass<Act>& p, Act* qkv, bool inverse) const;
  void attend(const layer_pass<Act>& p) const;
  void attend_from(const layer_pass<Act>& p, layer_state& state) const;
  kernels::attention_sight sight(const layer_pass<Act>& p) const { return {.window = window_, .first_key = p.first_key}; }

  std::int64_t heads_, kv_heads_, head_dim_, qkv_width_, window_;
  bool rotates_;
  rotary_rule rotary_;
  kernels::real<Act> scale_;
  projection<Act> qkv_proj_, o_proj_;
  Act *qkv_ = nullptr, *o_ = nullptr;      // kept: [rows, qkv_width], rotated; [rows, heads * head_dim]
  kernels::real<Act>* lse_ = nullptr;      // kept: [batch, heads, length]
  Act *d_qkv_ = nullptr, *d_o_ = nullptr;  // shared
};

}  // namespace isthmus
