#pragma once

#include "kernels/bf16.hpp"

#include <cstdint>

namespace isthmus::kernels {

/// Depthwise causal convolution and silu: y[t,c] = silu(bias[c] + sum_k weight[c,k] x[t - (width-1) + k, c]). Tap width-1 multiplies
/// the current row; rows before the first come from `initial`, or are zero.
template <class Act>
struct conv1d_args {
  const Act* x;                   // [batch * length, channels], rows x_stride apart
  const real<Act>*weight, *bias;  // [channels, width], [channels]
  Act* y;                         // [batch * length, channels], contiguous; no alias
  const Act* initial;             // [batch, width - 1, channels], oldest first, or null
  Act* final;                     // the last width - 1 inputs, shaped as initial and may alias it, or null
  std::int64_t batch, length, channels, width, x_stride;
};

/// For initial = null. dx overwrites; d_weight and d_bias add. The sum before silu is computed again.
template <class Act>
struct conv1d_backward_args {
  const Act* x;  // as in the forward pass
  const real<Act>*weight, *bias;
  const Act* dy;                // [batch * length, channels], contiguous
  Act* dx;                      // [batch * length, channels], rows dx_stride apart; no alias
  real<Act>*d_weight, *d_bias;  // [channels, width], [channels]
  std::int64_t batch, length, channels, width, x_stride, dx_stride;
};

/// One token of one sequence: y from the state and x, then the state moves on by x.
template <class Act>
struct conv1d_step_args {
  const Act* x;  // [channels]
  const real<Act>*weight, *bias;
  Act* state;  // [width - 1, channels], oldest first
  Act* y;      // [channels]
  std::int64_t channels, width;
};

/// The same as a convolution over one row, which is how backends do it.
template <class Act>
conv1d_args<Act> one_row_of(const conv1d_step_args<Act>& a) {
  return {.x = a.x,
          .weight = a.weight,
          .bias = a.bias,
          .y = a.y,
          .initial = a.state,
          .final = a.state,
          .batch = 1,
          .length = 1,
          .channels = a.channels,
          .width = a.width,
          .x_stride = a.channels};
}

}  // namespace isthmus::kernels
