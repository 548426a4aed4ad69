#pragma once

#include "framework/layers/gated_delta_net/delta_rule.hpp"
#include "framework/layers/layer_kind.hpp"
#include "framework/layers/short_conv.hpp"

namespace isthmus {

/// Gated DeltaNet, Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464: [q k v z beta alpha] = u W_in^T; q, k, v <- silu(conv(q, k, v));
/// y = the gated delta rule with its gated norm (delta_rule.hpp); out = y W_out^T. Its state holds the convolution's last inputs,
/// [conv_width - 1, channels] in the activation type, and S, [heads, key_dim, value_dim] in real<Act>. On the host's memory alone.
template <class Act>
class gated_delta_net_layer final : public layer<Act> {
public:
  gated_delta_net_layer(const layer_shape& shape, const layer_parts<Act>& parts);
  void place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) override;
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) override;
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) override;
  void advance(const layer_pass<Act>& p, std::span<const moving_sequence> sequences, const Act* x, Act* y) override;
  layer_state start() const override;
  bool carries_gradients() const override { return true; }
  void forward_from(const layer_pass<Act>& p, layer_state& state, const Act* x, Act* y) override;
  void backward_from(const layer_pass<Act>& p, const layer_state& before, const Act* x, const Act* dy, Act* dx,
                     layer_state& d_state) override;
  void weights_changed() override;

private:
  using real = kernels::real<Act>;
  /// before and d_state: as in backward_from, or null.
  void run_backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx, const layer_state* before, layer_state* d_state);
  delta_rule_args<Act> rule(const layer_pass<Act>& p, real* states, real* state) const;

  std::int64_t heads_, key_dim_, value_dim_, chunk_, channels_, in_width_;
  real eps_;
  projection<Act> in_proj_, out_proj_;
  short_conv<Act> conv_;
  parameter<real> a_log_, dt_bias_, norm_;
  Act *in_ = nullptr, *qkv_ = nullptr, *y_ = nullptr;        // kept: [rows, in_width | channels | heads * value_dim]
  real* states_ = nullptr;                                   // kept: see delta_rule_args
  Act *d_in_ = nullptr, *d_qkv_ = nullptr, *d_y_ = nullptr;  // shared
};

}  // namespace isthmus
