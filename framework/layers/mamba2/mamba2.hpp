#pragma once

#include "framework/layers/layer_kind.hpp"
#include "framework/layers/short_conv.hpp"

namespace isthmus {

/// Mamba-2, Dao & Gu 2024, arXiv:2405.21060: [z x b c dt] = u W_in^T; x, b, c <- silu(conv(x, b, c)); y = ssd(x, dt, b, c);
/// out = norm(y * silu(z)) W_out^T, the norm over each group of channels. Its state holds the convolution's last conv_width - 1 inputs,
/// [conv_width - 1, channels] in the activation type, and S, [heads, head_dim, state] in real<Act>.
template <class Act>
class mamba2_layer final : public layer<Act> {
public:
  mamba2_layer(const layer_shape& shape, const layer_parts<Act>& parts);
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
  using vector = parameter<real>;
  void scan(const layer_pass<Act>& p, real* ssm_state, real* chunk_states) const;
  void step(const layer_pass<Act>& p, real* ssm_state) const;
  void gate(const layer_pass<Act>& p) const;
  void scan_backward(const layer_pass<Act>& p, real* d_state) const;
  std::int64_t state_size() const { return heads_ * head_dim_ * state_; }

  std::int64_t inner_, heads_, head_dim_, groups_, state_, chunk_, conv_channels_, in_width_;
  real eps_, dt_min_, dt_max_;
  projection<Act> in_proj_, out_proj_;
  short_conv<Act> conv_;
  vector dt_bias_, a_log_, d_, norm_;
  Act *zxbcdt_ = nullptr, *xbc_ = nullptr, *y_ = nullptr, *gated_ = nullptr;  // kept: [rows, in_width | conv_channels | inner | inner]
  real *states_ = nullptr, *rstd_ = nullptr;                                  // kept: see ssd_args, gated_norm_args
  Act *d_zxbcdt_ = nullptr, *d_xbc_ = nullptr, *d_y_ = nullptr;               // shared
};

}  // namespace isthmus
