#pragma once

#include "framework/layers/layer_kind.hpp"
#include "framework/layers/short_conv.hpp"

#include <vector>

namespace isthmus {

/// Mamba, Gu & Dao 2023, arXiv:2312.00752: [x z] = u W_in^T; x <- silu(conv(x)); [delta b c] = x W_x^T; dt = delta W_dt^T;
/// with scan_norms delta, b and c pass RMS norms first (Jamba, arXiv:2403.19887); out = (scan(x, softplus(dt + bias), b, c) * silu(z))
/// W_out^T. Its state holds the convolution's last conv_width - 1 inputs, [conv_width - 1, inner] in the activation type, and h, [inner,
/// state] in real<Act>.
template <class Act>
class mamba1_layer final : public layer<Act> {
public:
  mamba1_layer(const layer_shape& shape, const layer_parts<Act>& parts);
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
  void project(const layer_pass<Act>& p) const;
  void normalise(const layer_pass<Act>& p) const;
  void normalise_backward(const layer_pass<Act>& p) const;
  void scan(const layer_pass<Act>& p, real* chunk_states, real* h) const;
  void step(const layer_pass<Act>& p, real* h) const;
  void scan_backward(const layer_pass<Act>& p, real* d_state) const;
  void project_backward(const layer_pass<Act>& p) const;

  std::int64_t inner_, state_, rank_, chunk_, dbc_width_;
  projection<Act> in_proj_, x_proj_, dt_proj_, out_proj_;
  short_conv<Act> conv_;
  parameter<real> dt_bias_, a_log_, d_;
  /// A norm of some columns of dbc.
  struct column_norm {
    parameter<real> gain;
    std::int64_t first, count;
  };
  std::vector<column_norm> norms_;  // of delta, b, c; or none
  real eps_;
  Act *xz_ = nullptr, *u_ = nullptr, *dbc_ = nullptr, *dt_ = nullptr, *y_ = nullptr;  // kept: [rows, 2 inner | inner | dbc | inner | inner]
  Act* normed_ = nullptr;                                                             // kept: [rows, dbc], dbc_ itself without norms
  real* states_ = nullptr;                                                            // kept: see selective_scan_args
  Act *d_xz_ = nullptr, *d_u_ = nullptr, *d_dbc_ = nullptr, *d_dt_ = nullptr, *d_y_ = nullptr;  // shared
};

}  // namespace isthmus
