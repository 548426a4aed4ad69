#pragma once

#include "kernels/conv1d.hpp"
#include "kernels/cuda/device.cuh"

// What convolutions of few and of many taps share.
namespace isthmus::kernels::cuda {

/// The filter that channel c shares with its neighbours.
template <class Args>
__device__ std::int64_t filter_of(const Args& a, std::int64_t c) {
  return c / (a.channels / a.filters);
}

/// Input t of the channel; t < 0 reaches into the rows before the first.
template <class Args>
__device__ float conv_input(const Args& a, std::int64_t b, std::int64_t t, std::int64_t c) {
  if (t >= 0) return wide(a.x[(b * a.length + t) * a.x_stride + c]);
  return a.initial ? wide(a.initial[(b * (a.width - 1) + a.width - 1 + t) * a.channels + c]) : 0.0F;
}

/// The gradient of input t from the final state; zero where it is none of the last width - 1.
template <class Act>
__device__ float conv_final(const conv1d_backward_args<Act>& a, std::int64_t b, std::int64_t t, std::int64_t c) {
  const std::int64_t kept = a.width - 1, place = t - (a.length - kept);
  return a.d_final && place >= 0 ? wide(a.d_final[(b * kept + place) * a.channels + c]) : 0.0F;
}

__device__ inline float activated(conv_activation f, float sum) { return f == conv_activation::silu ? sum * sigmoid(sum) : sum; }
__device__ inline float slope_of(conv_activation f, float sum) { return f == conv_activation::silu ? silu_slope(sum, sigmoid(sum)) : 1.0F; }

constexpr std::int64_t wide_run = 512;  // rows whose share of d_weight is summed by one block

/// y for more taps than fit into registers.
template <class Act>
void conv1d_wide(queue& q, const conv1d_args<Act>& a);

/// dx, and what each run of wide_run rows adds: partial [runs, channels * (width + 2)], taps of each channel, biases, skips.
/// d_sums: [batch * length, channels] of memory.
template <class Act>
void conv1d_wide_backward(queue& q, const conv1d_backward_args<Act>& a, float* d_sums, float* partial);

}  // namespace isthmus::kernels::cuda
