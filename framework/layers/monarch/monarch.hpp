#pragma once

#include "framework/core/buffer.hpp"
#include "framework/layers/long_conv_plans.hpp"
#include "framework/layers/monarch/implicit_filter.hpp"
#include "framework/layers/short_conv.hpp"

#include <optional>

namespace isthmus {

/// Monarch Mixer over the sequence, Fu et al. 2023, arXiv:2310.12109: [x2 x1 v] = conv(u W_in^T), a short causal convolution of each
/// channel; y = x2 * (h (*) w + D w) with w = x1 * v and an implicit filter h; out = y W_out^T. Its bidirectional form (M2-BERT) adds the
/// filter of what comes later; with the residual convolution y gains h' (*) u + D' u, a second filter over the layer's input itself. The
/// causal form's state holds the short convolution's last inputs, and w (and u) of the tokens that the filter reaches: [tokens, d_model],
/// each.
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
  bool carries_gradients() const override { return !both_ways_; }
  void forward_from(const layer_pass<Act>& p, layer_state& state, const Act* x, Act* y) override;
  void backward_from(const layer_pass<Act>& p, const layer_state& before, const Act* x, const Act* dy, Act* dx,
                     layer_state& d_state) override;

private:
  using real = kernels::real<Act>;
  /// A filter with its D, and its taps as decoding reads them.
  struct convolution {
    implicit_filter<Act> filter;
    parameter<real> skip;
    std::vector<real> taps = {};  // [context, d], once a token was read
  };
  /// Where the rows of a pass lie, and the filters that go over them.
  struct places {
    Act *u = nullptr, *y = nullptr;                                    // kept: [rows, 3 d | d]
    Act *r = nullptr, *d_u = nullptr, *d_y = nullptr, *d_r = nullptr;  // shared: [rows, d | 3 d | d | d]
    implicit_memory<real> gated = {}, residual = {};
  };
  places take(std::int64_t rows, std::int64_t length, arena& kept, arena& shared) const;
  kernels::long_conv_args<Act> arguments(const layer_pass<Act>& p, const convolution& c, const implicit_memory<real>& taps) const;
  kernels::long_conv_backward_args<Act> backward_arguments(const layer_pass<Act>& p, const convolution& c,
                                                           const implicit_memory<real>& taps, const Act* dy) const;
  void convolve(const layer_pass<Act>& p, const places& at, const Act* x) const;
  void convolve_back(const layer_pass<Act>& p, const places& at, const Act* x) const;

  // From a state (monarch_state.cpp).
  /// A text's rows that the filter still reaches, and a pass's behind them, filled up with zeros to `length`.
  struct whole_text {
    std::int64_t past = 0, length = 0;
    places at;
    Act* x = nullptr;  // [length, d]
  };
  layer_pass<Act> pass_of(const layer_pass<Act>& p, const whole_text& whole) const;
  whole_text gather(const layer_pass<Act>& p, const layer_state& before, const Act* x);
  void gates_back(const layer_pass<Act>& p, const whole_text& whole, const Act* d_w) const;
  void append(const layer_pass<Act>& p, layer_state& state, const Act* x) const;
  void begin(const layer_pass<Act>& p, layer_state& state, const Act* x);
  void go_on(const layer_pass<Act>& p, layer_state& state, const Act* x);
  void step(const layer_pass<Act>& p, layer_state& state, const Act* x, std::int64_t t);
  void convolve_past(const layer_pass<Act>& p, convolution& c, state_part& past, const Act* now, real* sums) const;

  std::int64_t d_, context_;
  bool both_ways_;
  projection<Act> in_proj_, out_proj_;
  short_conv<Act> conv_;
  convolution gated_;
  std::optional<convolution> residual_;
  mutable long_conv_plans<Act> plans_;
  places at_;
  Act *in_ = nullptr, *d_in_ = nullptr;  // kept, shared: [rows, 3 d]
  real* sums_ = nullptr;                 // shared: [d], decoding
  std::unique_ptr<buffer> whole_bytes_;  // of the last whole text
};

}  // namespace isthmus
