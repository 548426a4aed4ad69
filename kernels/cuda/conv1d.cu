#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/conv1d.cuh"
#include "kernels/cuda/ops.hpp"

#include <string>

namespace isthmus::kernels::cuda {

namespace {

constexpr int threads = 128, run = 32;  // a thread takes `run` rows of one channel

/// Rows of one thread: channel c of sequence b, rows [begin, end).
struct rows_of_thread {
  std::int64_t c, b, begin, end;
};
__device__ rows_of_thread my_rows(std::int64_t length) {
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.y) * run;
  return {static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, blockIdx.z, begin, min(begin + run, length)};
}
dim3 grid_of(std::int64_t batch, std::int64_t length, std::int64_t channels) {
  return {static_cast<unsigned>(ceil_div(channels, threads)), static_cast<unsigned>(ceil_div(length, run)), static_cast<unsigned>(batch)};
}

template <class Act, int Width>
__global__ void conv1d_rows(conv1d_args<Act> a) {
  const auto [c, b, begin, end] = my_rows(a.length);
  if (c >= a.channels) return;
  float weight[Width], window[Width];
  for (int k = 0; k < Width; ++k) weight[k] = a.weight[filter_of(a, c) * Width + k];
  for (int k = 0; k < Width - 1; ++k) window[k + 1] = conv_input(a, b, begin - (Width - 1) + k, c);
  const float bias = a.bias ? a.bias[c] : 0, skip = a.skip ? a.skip[c] : 0;
#pragma unroll 8
  for (std::int64_t t = begin; t < end; ++t) {
    for (int k = 0; k + 1 < Width; ++k) window[k] = window[k + 1];
    window[Width - 1] = wide(a.x[(b * a.length + t) * a.x_stride + c]);
    float sum = bias + skip * window[Width - 1];
    for (int k = 0; k < Width; ++k) sum += weight[k] * window[k];
    a.y[(b * a.length + t) * a.channels + c] = narrow<Act>(activated(a.activation, sum));
  }
}

/// After conv1d_rows, which reads `initial`: they may be the same memory.
template <class Act>
__global__ void keep_last_rows(conv1d_args<Act> a) {
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, b = blockIdx.z, kept = a.width - 1;
  if (c >= a.channels) return;
  // Ascending: a row is read before it is written, for it moves to an earlier place.
  for (std::int64_t k = 0; k < kept; ++k) a.final[(b * kept + k) * a.channels + c] = narrow<Act>(conv_input(a, b, a.length - kept + k, c));
}

/// dx of a run of rows, and what the run adds: partial [runs, channels * (Width + 2)], taps of each channel, biases, skips.
template <class Act, int Width>
__global__ void conv1d_backward_rows(conv1d_backward_args<Act> a, float* partial) {
  const auto [c, b, begin, end] = my_rows(a.length);
  if (c >= a.channels) return;
  float weight[Width], window[Width], d_sums[Width], d_weight[Width];
  const auto x_at = [&](std::int64_t t) { return conv_input(a, b, t, c); };
  for (int k = 0; k < Width; ++k) {
    weight[k] = a.weight[filter_of(a, c) * Width + k];
    d_sums[k] = d_weight[k] = 0;
  }
  for (int k = 0; k < Width - 1; ++k) window[k + 1] = x_at(begin - (Width - 1) + k);
  float d_bias = 0, d_skip = 0;
  const float bias = a.bias ? a.bias[c] : 0, skip = a.skip ? a.skip[c] : 0;
#pragma unroll 4
  for (std::int64_t t = begin; t < end + Width - 1; ++t) {  // dx of a row needs the d_sums of the Width - 1 rows behind it
    float d_sum = 0;
    if (t < a.length) {
      for (int k = 0; k + 1 < Width; ++k) window[k] = window[k + 1];
      window[Width - 1] = x_at(t);
      float sum = bias + skip * window[Width - 1];
      for (int k = 0; k < Width; ++k) sum += weight[k] * window[k];
      d_sum = wide(a.dy[(b * a.length + t) * a.channels + c]) * slope_of(a.activation, sum);
      if (t < end) {
        d_bias += d_sum;
        d_skip += d_sum * window[Width - 1];
        for (int k = 0; k < Width; ++k) d_weight[k] += d_sum * window[k];
      }
    }
    for (int k = 0; k + 1 < Width; ++k) d_sums[k] = d_sums[k + 1];
    d_sums[Width - 1] = d_sum;
    const std::int64_t row = t - (Width - 1);
    if (row < begin) continue;
    float dx = conv_final(a, b, row, c) + skip * d_sums[0];
    for (int k = 0; k < Width; ++k) dx += weight[Width - 1 - k] * d_sums[k];
    a.dx[(b * a.length + row) * a.dx_stride + c] = narrow<Act>(dx);
  }
  float* mine = partial + (static_cast<std::int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) * a.channels * (Width + 2);
  for (int k = 0; k < Width; ++k) mine[c * Width + k] = d_weight[k];
  mine[a.channels * Width + c] = d_bias;
  mine[a.channels * (Width + 1) + c] = d_skip;
}

/// The gradient of the sum of row t, worked out again.
template <class Act>
__device__ float d_sum_of(const conv1d_backward_args<Act>& a, std::int64_t b, std::int64_t t, std::int64_t c) {
  const float x = conv_input(a, b, t, c);
  float sum = (a.bias ? a.bias[c] : 0) + (a.skip ? a.skip[c] : 0) * x;
  for (std::int64_t k = 0; k < a.width; ++k) sum += a.weight[filter_of(a, c) * a.width + k] * conv_input(a, b, t - (a.width - 1) + k, c);
  return wide(a.dy[(b * a.length + t) * a.channels + c]) * slope_of(a.activation, sum);
}

/// The gradient of the rows before the first, a thread a channel. d_sums: [batch * length, channels] as wide taps leave it, or null.
/// After all that reads d_final, which may be the same memory: the last row first, for each reads an earlier place than it writes to.
template <class Act>
__global__ void initial_rows(conv1d_backward_args<Act> a, const float* d_sums) {
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, b = blockIdx.z, kept = a.width - 1;
  if (c >= a.channels) return;
  for (std::int64_t i = kept - 1; i >= 0; --i) {
    float dx = conv_final(a, b, i - kept, c);
    for (std::int64_t t = min(i, a.length - 1); t >= 0; --t) {
      const float d_sum = d_sums ? d_sums[(b * a.length + t) * a.channels + c] : d_sum_of(a, b, t, c);
      dx += a.weight[filter_of(a, c) * a.width + i - t] * d_sum;
    }
    a.d_initial[(b * kept + i) * a.channels + c] = narrow<Act>(dx);
  }
}

/// f.operator()<Width>() for the width that it is at run time.
template <class F>
void for_width(std::int64_t width, F f) {
  switch (width) {
    case 1: return f.template operator()<1>();
    case 2: return f.template operator()<2>();
    case 3: return f.template operator()<3>();
    case 4: return f.template operator()<4>();
    case 5: return f.template operator()<5>();
    case 6: return f.template operator()<6>();
    case 7: return f.template operator()<7>();
    case 8: return f.template operator()<8>();
    default: throw device_error("conv1d on the GPU: width is " + std::to_string(width) + ", at least 1 is needed");
  }
}

constexpr std::int64_t narrow_width = 8;

void check_width(std::int64_t width) {
  if (width > conv1d_width_max)
    throw device_error("conv1d on the GPU: width is " + std::to_string(width) + ", at most " + std::to_string(conv1d_width_max) +
                       " are there");
}

/// d_weight[f, k] += the sum over the channels of filter f of taps[c, k].
__global__ void add_shared_taps(const float* taps, std::int64_t filters, std::int64_t sharers, std::int64_t width, float* d_weight) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, f = i / width;
  if (f >= filters) return;
  float sum = 0;
  for (std::int64_t c = f * sharers; c < (f + 1) * sharers; ++c) sum += taps[c * width + i % width];
  d_weight[i] += sum;
}

}  // namespace

template <class Act>
void conv1d(stream& s, const conv1d_args<Act>& a) {
  queue& q = queue_of(s);
  check_width(a.width);
  if (a.width > narrow_width)
    conv1d_wide(q, a);
  else
    for_width(a.width,
              [&]<int Width>() { launch(q, "conv1d", conv1d_rows<Act, Width>, grid_of(a.batch, a.length, a.channels), threads, 0, a); });
  if (a.final && a.width > 1) launch(q, "conv1d's last rows", keep_last_rows<Act>, grid_of(a.batch, 1, a.channels), threads, 0, a);
}

template <class Act>
void conv1d_backward(stream& s, const conv1d_backward_args<Act>& a) {
  queue& q = queue_of(s);
  check_width(a.width);
  const bool is_wide = a.width > narrow_width;
  const std::int64_t rows_a_run = is_wide ? wide_run : run, runs = a.batch * ceil_div(a.length, rows_a_run);
  const std::int64_t stride = a.channels * (a.width + 2), taps = a.channels * a.width;
  if (runs == 0 || a.channels == 0) return;
  // Shares of runs, taps of channels where several share a filter, and for many taps the gradient of the sums.
  float* partial = q.scratch_floats(runs * stride + taps + (is_wide ? a.batch * a.length * a.channels : 0));
  float* of_channels = partial + runs * stride;
  if (is_wide)
    conv1d_wide_backward(q, a, of_channels + taps, partial);
  else
    for_width(a.width, [&]<int Width>() {
      launch(q, "conv1d_backward", conv1d_backward_rows<Act, Width>, grid_of(a.batch, a.length, a.channels), threads, 0, a, partial);
    });
  if (a.d_initial && a.width > 1)
    launch(q, "conv1d_backward's first rows", initial_rows<Act>, grid_of(a.batch, 1, a.channels), threads, 0, a,
           is_wide ? of_channels + taps : nullptr);
  const bool shared = a.filters < a.channels;
  if (shared) device_memory.clear(q, of_channels, static_cast<std::size_t>(taps) * sizeof(float));
  add_partial_sums(q, partial, runs, stride, taps, shared ? of_channels : a.d_weight);
  if (shared)
    launch(q, "conv1d's shared taps", add_shared_taps, static_cast<unsigned>(ceil_div(a.filters * a.width, threads)), threads, 0,
           of_channels, a.filters, a.channels / a.filters, a.width, a.d_weight);
  if (a.bias) add_partial_sums(q, partial + taps, runs, stride, a.channels, a.d_bias);
  if (a.skip) add_partial_sums(q, partial + taps + a.channels, runs, stride, a.channels, a.d_skip);
}

template <class Act>
void conv1d_step(stream& s, const conv1d_step_args<Act>& a) {
  conv1d<Act>(s, one_row_of(a));
}

#define ISTHMUS_FOR(Act)                                                    \
  template void conv1d(stream&, const conv1d_args<Act>&);                   \
  template void conv1d_backward(stream&, const conv1d_backward_args<Act>&); \
  template void conv1d_step(stream&, const conv1d_step_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
