#pragma once

#include "framework/layers/long_conv_plans.hpp"
#include "framework/layers/monarch/implicit_filter.hpp"
#include "framework/layers/short_conv.hpp"

#include <optional>

namespace isthmus {

/// Monarch Mixer over the sequence, Fu et al. 2023, arXiv:2310.12109: [x2 x1 v] = conv(u W_in^T), a short causal convolution of each channel;
/// y = x2 * (h (*) w + D w) with w = x1 * v and an implicit filter h; out = y W_out^T. Its bidirectional form (M2-BERT) adds the filter of what
/// comes later; with the residual convolution y gains h' (*) u + D' u, a second filter over the layer's input itself.
/// The causal form's state holds the short convolution's last inputs, and w (and u) of the tokens that the filter reaches: [tokens, d_model], each.
template <class Act>
class monarch_layer final : public layer<Act> {
public:
  monarch_layer(const layer_shape& shape, const layer_parts<Act>& parts);
  void place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) override;
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) override;
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) override;
  /// Throws contract_error when the layer is bidirectional.
  void advance(const layer_pass<Act>& p, std::span<const moving_sequence> sequences, const Act* x, Act* y) override;
  layer_state start() const override;
  void weights_changed() override;

private:
  using real = kernels::real<Act>;
  /// A filter with its D, and its taps as decoding reads them.
  struct convolution {
    implicit_filter<Act> filter;
    parameter<real> skip;
    std::vector<real> taps = {};  // [context, d], once a token was read
  };
  kernels::long_conv_args<Act> arguments(const layer_pass<Act>& p, convolution& c) const;
  kernels::long_conv_backward_args<Act> backward_arguments(const layer_pass<Act>& p, convolution& c) const;
  void convolve_back(const layer_pass<Act>& p, convolution& c, kernels::long_conv_backward_args<Act> a) const;
  void convolve(const layer_pass<Act>& p, const Act* x);
  void begin(const layer_pass<Act>& p, layer_state& state, const Act* x);
  void step(const layer_pass<Act>& p, layer_state& state, const Act* x, std::int64_t t);
  void convolve_past(const layer_pass<Act>& p, convolution& c, state_part& past, const Act* now, real* sums) const;

  std::int64_t d_, context_;
  bool both_ways_;
  projection<Act> in_proj_, out_proj_;
  short_conv<Act> conv_;
  convolution gated_;
  std::optional<convolution> residual_;
  mutable long_conv_plans<Act> plans_;
  Act *in_ = nullptr, *u_ = nullptr, *y_ = nullptr;                                        // kept: [rows, 3 d | 3 d | d]
  Act *r_ = nullptr, *d_in_ = nullptr, *d_u_ = nullptr, *d_y_ = nullptr, *d_r_ = nullptr;  // shared: [rows, d] the first and the last two
  real* sums_ = nullptr;                                                                   // shared: [d], decoding
};

}  // namespace isthmus
