#pragma once

#include "framework/layers/layer_state.hpp"
#include "framework/layers/pass.hpp"

#include <cstdint>

namespace isthmus {

/// A layer's depthwise causal convolution of few taps, a filter a channel: kernels/conv1d.hpp with what the layer has said once.
template <class Act>
class short_conv {
public:
  using real = kernels::real<Act>;
  /// weight: [channels, width]; bias: [channels], or null. Inputs are columns of rows that lie x_stride apart, outputs are contiguous.
  short_conv(parameter<real> weight, parameter<real> bias, std::int64_t channels, std::int64_t width, std::int64_t x_stride,
             kernels::conv_activation activation)
      : weight_(weight), bias_(bias), channels_(channels), width_(width), x_stride_(x_stride), activation_(activation) {}

  void forward(const layer_pass<Act>& p, const Act* x, Act* y) const { run(p, x, y, nullptr); }
  /// From a state of one sequence, which moves on.
  void advance(const layer_pass<Act>& p, Act* state, const Act* x, Act* y) const;
  /// The same, beside backward: gradients go through the state.
  void forward_from(const layer_pass<Act>& p, Act* state, const Act* x, Act* y) const { run(p, x, y, state); }
  /// dx shaped as x. before: the state that it began from, or null; d_state: the gradient of the one it came to, and on return that of
  /// `before`, or null for zero.
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx, const Act* before = nullptr, Act* d_state = nullptr) const;
  state_part start() const { return fixed_part<Act>(state_kind::conv, (width_ - 1) * channels_); }

private:
  void run(const layer_pass<Act>& p, const Act* x, Act* y, Act* state) const;

  parameter<real> weight_, bias_;
  std::int64_t channels_, width_, x_stride_;
  kernels::conv_activation activation_;
};

}  // namespace isthmus
