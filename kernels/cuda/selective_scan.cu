#include "kernels/cuda/selective_scan.cuh"

#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda {

namespace {

template <class Act, int N>
__global__ void __launch_bounds__(scan_threads) scan_channels(selective_scan_args<Act> a) {
  __shared__ float b[scan_run][N], c[scan_run][N];
  const scan_place at(a.channels);
  const std::int64_t carried = (at.batch * a.channels + at.e) * a.state;
  float h[N], rate[N];
  scan_rates(a, at, rate);
#pragma unroll
  for (int n = 0; n < N; ++n) h[n] = at.there && a.initial && n < a.state ? a.initial[carried + n] : 0.0F;
  const float skip = at.there ? a.d[at.e] : 0.0F;
  float* kept = a.states ? a.states + at.batch * ((a.length + a.chunk - 1) / a.chunk) * a.channels * a.state + at.e * a.state : nullptr;
  std::int64_t until_kept = 0;
  for (std::int64_t first = 0; first < a.length; first += scan_run) {
    const std::int64_t begin = at.batch * a.length + first, rows = least(scan_run, a.length - first);
    __syncthreads();
    fill_scan_rows(a.b + begin * a.bc_stride, a.bc_stride, rows, a.state, b);
    fill_scan_rows(a.c + begin * a.bc_stride, a.bc_stride, rows, a.state, c);
    __syncthreads();
    if (!at.there) continue;
    for (int t = 0; t < rows; ++t) {
      if (kept && until_kept == 0) {
        until_kept = a.chunk;
#pragma unroll
        for (int n = 0; n < N; ++n)
          if (n < a.state) kept[n] = h[n];
        kept += a.state * a.channels;
      }
      --until_kept;
      const scan_row r = scan_row_of(a, at, begin + t);
      const float moved = r.delta * r.x;
      float y = skip * r.x;
#pragma unroll
      for (int n = 0; n < N; ++n) {
        h[n] = exp2f(r.delta * rate[n]) * h[n] + moved * b[t][n];
        y += h[n] * c[t][n];
      }
      if (a.z) {
        const float z = wide(a.z[(begin + t) * a.z_stride + at.e]);
        y *= z * sigmoid(z);
      }
      a.y[(begin + t) * a.channels + at.e] = narrow<Act>(y);
    }
  }
  if (!a.final || !at.there) return;
#pragma unroll
  for (int n = 0; n < N; ++n)
    if (n < a.state) a.final[carried + n] = h[n];
}

/// One token: a thread a channel.
template <class Act>
__global__ void one_token(selective_scan_step_args<Act> a) {
  const std::int64_t e = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (e >= a.channels) return;
  const float delta = softplus(wide(a.dt[e]) + a.dt_bias[e]), x = wide(a.x[e]);
  float y = a.d[e] * x;
  for (std::int64_t n = 0; n < a.state; ++n) {
    float* h = a.h + e * a.state + n;
    *h = exp2f(delta * -expf(a.a_log[e * a.state + n]) * log2_of_e) * *h + delta * x * wide(a.b[n]);
    y += *h * wide(a.c[n]);
  }
  if (a.z) {
    const float z = wide(a.z[e]);
    y *= z * sigmoid(z);
  }
  a.y[e] = narrow<Act>(y);
}

}  // namespace

template <class Act>
void selective_scan(stream& s, const selective_scan_args<Act>& a) {
  for_scan_state(a.state, [&]<int N>() {
    launch(queue_of(s), "selective_scan", scan_channels<Act, N>, scan_grid(a.batch, a.channels), scan_threads, 0, a);
  });
}

template <class Act>
void selective_scan_step(stream& s, const selective_scan_step_args<Act>& a) {
  launch(queue_of(s), "selective_scan_step", one_token<Act>, static_cast<unsigned>(ceil_div(a.channels, 64)), 64, 0, a);
}

#define ISTHMUS_FOR(Act)                                                  \
  template void selective_scan(stream&, const selective_scan_args<Act>&); \
  template void selective_scan_step(stream&, const selective_scan_step_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
