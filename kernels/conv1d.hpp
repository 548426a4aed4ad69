#pragma once

#include "kernels/bf16.hpp"

#include <cstdint>

namespace isthmus::kernels {

enum class conv_activation { none, silu };

/// Depthwise causal convolution of few taps: y[t,c] = f(bias[c] + skip[c] x[t,c] + sum_k weight[c',k] x[t - (width-1) + k, c]) with
/// c' = c / (channels / filters): groups of channels share a filter. Tap width-1 multiplies the current row; rows before the first
/// come from `initial`, or are zero. Width at most conv1d_width_max.
template <class Act>
struct conv1d_args {
  const Act* x;                                                    // [batch * length, channels], rows x_stride apart
  const real<Act>*weight, *bias;                                   // [filters, width]; [channels], or null for zero
  const real<Act>* skip;                                           // [channels], or null for zero
  Act* y;                                                          // [batch * length, channels], contiguous; no alias
  const Act* initial;                                              // [batch, width - 1, channels], oldest first, or null
  Act* final;                                                      // the last width - 1 inputs, shaped as initial and may alias it, or null
  std::int64_t batch, length, channels, filters, width, x_stride;  // filters divides channels
  conv_activation activation;                                      // f
};

constexpr std::int64_t conv1d_width_max = 128;

/// dx overwrites; d_weight, d_bias and d_skip add, unless bias or skip is null. The sum before f is computed again.
/// The gradient of the final state enters by d_final; that of the initial one leaves by d_initial.
template <class Act>
struct conv1d_backward_args {
  const Act* x;  // as in the forward pass
  const real<Act>*weight, *bias, *skip;
  const Act* dy;                         // [batch * length, channels], contiguous
  Act* dx;                               // [batch * length, channels], rows dx_stride apart; no alias
  real<Act>*d_weight, *d_bias, *d_skip;  // [filters, width], [channels], [channels]
  const Act* initial;                    // as in the forward pass
  const Act* d_final;                    // [batch, width - 1, channels], or null for zero
  Act* d_initial;                        // the same shape, overwritten; may alias d_final; or null
  std::int64_t batch, length, channels, filters, width, x_stride, dx_stride;
  conv_activation activation;
};

/// One token of one sequence: y from the state and x, then the state moves on by x.
template <class Act>
struct conv1d_step_args {
  const Act* x;  // [channels]
  const real<Act>*weight, *bias, *skip;
  Act* state;  // [width - 1, channels], oldest first
  Act* y;      // [channels]
  std::int64_t channels, filters, width;
  conv_activation activation;
};

/// The same as a convolution over one row, which is how backends do it.
template <class Act>
conv1d_args<Act> one_row_of(const conv1d_step_args<Act>& a) {
  return {.x = a.x,
          .weight = a.weight,
          .bias = a.bias,
          .skip = a.skip,
          .y = a.y,
          .initial = a.state,
          .final = a.state,
          .batch = 1,
          .length = 1,
          .channels = a.channels,
          .filters = a.filters,
          .width = a.width,
          .x_stride = a.channels,
          .activation = a.activation};
}

}  // namespace isthmus::kernels
