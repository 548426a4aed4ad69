#pragma once

#include "framework/layers/hyena/long_filter.hpp"
#include "framework/layers/layer_kind.hpp"
#include "framework/layers/short_conv.hpp"

#include <optional>

namespace isthmus {

/// Hyena of order 2, Poli et al. 2023, arXiv:2302.10866, with the filters of StripedHyena and StripedHyena 2 (Ku et al. 2025, arXiv:2503.01868):
/// [x2 x1 v] = conv(u W_in^T), a short causal convolution of each channel; y = x2 * (h (*) w + D w) with w = x1 * v; out = y W_out^T.
/// h is modal (a sum of complex exponentials), of decays (a sum of real ones), or explicit taps. Its state holds the short convolution's
/// last inputs, [hyena_short - 1, 3 d_model], and the modes of each channel in real<Act>, or the last taps - 1 of w.
template <class Act>
class hyena_layer final : public layer<Act> {
public:
  hyena_layer(const layer_shape& shape, const layer_parts<Act>& parts);
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
  kernels::conv1d_args<Act> taps(const layer_pass<Act>& p, Act* state) const;
  void gate(const layer_pass<Act>& p, const Act* a, std::int64_t a_stride, const Act* b, std::int64_t b_stride, Act* to) const;
  void convolve_taps(const layer_pass<Act>& p, Act* state) const;
  void taps_backward(const layer_pass<Act>& p, const Act* before, Act* d_state) const;

  std::int64_t d_, taps_, filters_;
  bool explicit_;
  projection<Act> in_proj_, out_proj_;
  short_conv<Act> conv_;
  parameter<real> skip_, tap_weight_{};
  std::optional<long_filter<Act>> filter_;                                  // when it is not explicit
  Act *in_ = nullptr, *u_ = nullptr, *y_ = nullptr;                         // kept: [rows, 3 d | 3 d | d]
  Act *w_ = nullptr, *c_ = nullptr;                                         // kept, of explicit filters: [rows, d] twice
  Act *d_in_ = nullptr, *d_u_ = nullptr, *d_y_ = nullptr, *d_w_ = nullptr;  // shared
};

}  // namespace isthmus
