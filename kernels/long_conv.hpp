#pragma once

#include "kernels/bf16.hpp"

#include <cstdint>

namespace isthmus::kernels {

/// What a backend keeps for sequences of one length: factors and roots of unity of its transform, computed once. Made by
/// op_table::make_long_conv_plan for that backend alone; used by one stream at a time; read-only to kernels that run.
class long_conv_plan {
public:
  explicit long_conv_plan(std::int64_t of_length) : length(of_length) {}
  virtual ~long_conv_plan() = default;
  long_conv_plan(const long_conv_plan&) = delete;
  long_conv_plan& operator=(const long_conv_plan&) = delete;

  const std::int64_t length;  // > 0
};

/// Gated depthwise convolution with filters as long as the sequence, by fast Fourier transform: with w = x1 * v (element by element)
///   y[t] = x2[t] * (d w[t] + sum_{k <= t} h[k] w[t-k] + sum_{s >= 0, t+1+s < length} h_back[s] w[t+1+s])
/// for each channel c with filter c / (channels / filters). The last sum is there when h_back is: the bidirectional form of M2-BERT.
/// Poli et al. 2023, arXiv:2302.10866, eq. 6; Fu et al. 2023, arXiv:2310.12109.
template <class Act>
struct long_conv_args {
  long_conv_plan* plan;        // for this length
  const Act *v, *x1, *x2;      // [batch * length, channels], rows x_stride apart; the gates x1, x2 may be null for one
  const real<Act>*h, *h_back;  // [filters, taps]; the first `length` taps are used, missing ones are zero; h_back may be null
  const real<Act>* d;          // [channels], or null for zero
  Act* y;                      // [batch * length, channels], rows y_stride apart; no alias
  std::int64_t batch, length, channels, filters, taps, x_stride, y_stride;  // filters divides channels; taps > 0
};

/// dv, dx1, dx2 overwrite; dh, dh_back, dd add. What is null in the forward pass has no gradient.
template <class Act>
struct long_conv_backward_args {
  long_conv_plan* plan;  // as in the forward pass
  const Act *v, *x1, *x2;
  const real<Act>*h, *h_back, *d;
  const Act* dy;                // [batch * length, channels], rows dy_stride apart
  Act *dv, *dx1, *dx2;          // [batch * length, channels], rows dx_stride apart; no alias
  real<Act>*dh, *dh_back, *dd;  // [filters, taps] twice, [channels]
  std::int64_t batch, length, channels, filters, taps, x_stride, dy_stride, dx_stride;
};

}  // namespace isthmus::kernels
