#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/selective_scan.hpp"

#include <string>

// Mamba-1's selective scan: a thread a channel of one sequence, its N states in registers, those beyond `state` zero.
namespace isthmus::kernels::cuda {

constexpr int scan_threads = 128, scan_run = 16;  // channels of a block; rows whose B and C are read at once
constexpr float log2_of_e = 1.44269504F, log_of_2 = 0.693147181F;

/// The channel of a thread. Those behind the last one take part in all that a block does together, with zeros.
struct scan_place {
  std::int64_t e, batch;
  bool there;
  __device__ explicit scan_place(std::int64_t channels)
      : e(static_cast<std::int64_t>(blockIdx.x) * scan_threads + threadIdx.x), batch(blockIdx.y), there(e < channels) {}
};
inline dim3 scan_grid(std::int64_t batch, std::int64_t channels) {
  return {static_cast<unsigned>(ceil_div(channels, scan_threads)), static_cast<unsigned>(batch)};
}

/// exp(D A) = exp2(D rate[n]).
template <int N, class Args>
__device__ void scan_rates(const Args& a, const scan_place& at, float (&rate)[N]) {
#pragma unroll
  for (int n = 0; n < N; ++n) rate[n] = at.there && n < a.state ? -expf(a.a_log[at.e * a.state + n]) * log2_of_e : 0.0F;
}

/// to = `count` rows of B or C, zeros behind the last state. The block waits for each other on both sides.
template <int N, class Act>
__device__ void fill_scan_rows(const Act* from, std::int64_t stride, std::int64_t count, std::int64_t state, float (&to)[scan_run][N]) {
  for (int i = threadIdx.x; i < scan_run * N; i += scan_threads) {
    const int t = i / N, n = i % N;
    to[t][n] = t < count && n < state ? wide(from[t * stride + n]) : 0.0F;
  }
}

/// One row of the channel: D before softplus, D, x.
struct scan_row {
  float pre, delta, x;
};
template <class Args>
__device__ scan_row scan_row_of(const Args& a, const scan_place& at, std::int64_t row) {
  if (!at.there) return {0, 0, 0};
  const float pre = wide(a.dt[row * a.dt_stride + at.e]) + a.dt_bias[at.e];
  return {pre, softplus(pre), wide(a.x[row * a.x_stride + at.e])};
}

/// f.operator()<N>() with the least N for `state`.
template <class F>
void for_scan_state(std::int64_t state, F f) {
  if (state < 1 || state > selective_scan_state_max)
    throw device_error("selective_scan on the GPU: state is " + std::to_string(state) + ", 1 to 64 are there");
  if (state <= 16) return f.template operator()<16>();
  if (state <= 32) return f.template operator()<32>();
  f.template operator()<64>();
}

}  // namespace isthmus::kernels::cuda
