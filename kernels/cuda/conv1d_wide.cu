#include "kernels/cuda/conv1d.cuh"

namespace isthmus::kernels::cuda {

namespace {

// A block has 32 channels, a warp's, and `tile` rows; each of its threads sums `few` neighbouring rows, or taps, of one channel, with
// what it multiplies in registers that move on by one.
constexpr int block_channels = 32, warps = 8, few = 8, tile = warps * few, taps_max = conv1d_width_max;

struct tile_memory {
  float window[tile + taps_max - 1][block_channels];
  float taps[taps_max][block_channels];
};

/// Where a block works: [channels, rows, sequence].
struct tile_place {
  std::int64_t c, b, begin, end;
  bool inside;
};
template <class Args>
__device__ tile_place place_of(const Args& a, std::int64_t rows) {
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * block_channels + threadIdx.x, begin = blockIdx.y * rows;
  return {c, blockIdx.z, begin, least(begin + rows, a.length), c < a.channels};
}
template <class Args>
dim3 grid_of(const Args& a, std::int64_t rows) {
  return {static_cast<unsigned>(ceil_div(a.channels, block_channels)), static_cast<unsigned>(ceil_div(a.length, rows)),
          static_cast<unsigned>(a.batch)};
}
const dim3 block_of(block_channels, warps);

template <class Args>
__device__ void load_taps(const Args& a, const tile_place& at, bool reversed, tile_memory& m) {
  for (int k = threadIdx.y; k < a.width; k += warps)
    m.taps[k][threadIdx.x] = at.inside ? a.weight[filter_of(a, at.c) * a.width + (reversed ? a.width - 1 - k : k)] : 0.0F;
}

/// sums[i] = sum_k taps[k] window[first + i + k].
__device__ inline void sum_rows(const tile_memory& m, int first, int width, float (&sums)[few]) {
  float values[few];
  for (int i = 0; i < few; ++i) {
    sums[i] = 0;
    values[i] = m.window[first + i][threadIdx.x];
  }
#pragma unroll 8
  for (int k = 0; k < width; ++k) {
    const float tap = m.taps[k][threadIdx.x];
    for (int i = 0; i < few; ++i) sums[i] += tap * values[i];
    for (int i = 0; i + 1 < few; ++i) values[i] = values[i + 1];
    if (k + 1 < width) values[few - 1] = m.window[first + few + k][threadIdx.x];
  }
}

/// Fills the window with rows [begin - (width - 1), begin + tile) as row(t) gives them.
template <class Row>
__device__ void load_window(std::int64_t first, int rows, tile_memory& m, Row row) {
  for (int i = threadIdx.y; i < rows; i += warps) m.window[i][threadIdx.x] = row(first + i);
}

template <class Act>
__global__ void wide_rows(conv1d_args<Act> a) {
  __shared__ tile_memory m;
  const tile_place at = place_of(a, tile);
  const int width = static_cast<int>(a.width), first = threadIdx.y * few;
  load_taps(a, at, false, m);
  load_window(at.begin - (width - 1), tile + width - 1, m,
              [&](std::int64_t t) { return at.inside && t < a.length ? conv_input(a, at.b, t, at.c) : 0.0F; });
  __syncthreads();
  float sums[few];
  sum_rows(m, first, width, sums);
  if (!at.inside) return;
  const float bias = a.bias ? a.bias[at.c] : 0, skip = a.skip ? a.skip[at.c] : 0;
  for (int i = 0; i < few; ++i) {
    const std::int64_t t = at.begin + first + i;
    if (t >= at.end) break;
    const float sum = bias + skip * m.window[first + i + width - 1][threadIdx.x] + sums[i];
    a.y[(at.b * a.length + t) * a.channels + at.c] = narrow<Act>(activated(a.activation, sum));
  }
}

/// Input t of the channel, zero behind the sequence and, without a state, before it.
template <class Act>
__device__ float backward_input(const conv1d_backward_args<Act>& a, const tile_place& at, std::int64_t t) {
  return at.inside && t < a.length ? conv_input(a, at.b, t, at.c) : 0.0F;
}

/// d_sums = dy f'(sum).
template <class Act>
__global__ void wide_slopes(conv1d_backward_args<Act> a, float* d_sums) {
  __shared__ tile_memory m;
  const tile_place at = place_of(a, tile);
  const int width = static_cast<int>(a.width), first = threadIdx.y * few;
  float sums[few] = {};
  if (a.activation != conv_activation::none) {
    load_taps(a, at, false, m);
    load_window(at.begin - (width - 1), tile + width - 1, m, [&](std::int64_t t) { return backward_input(a, at, t); });
    __syncthreads();
    sum_rows(m, first, width, sums);
  }
  if (!at.inside) return;
  const float bias = a.bias ? a.bias[at.c] : 0, skip = a.skip ? a.skip[at.c] : 0;
  for (int i = 0; i < few; ++i) {
    const std::int64_t t = at.begin + first + i, to = (at.b * a.length + t) * a.channels + at.c;
    if (t >= at.end) break;
    const float sum = bias + skip * backward_input(a, at, t) + sums[i];
    d_sums[to] = wide(a.dy[to]) * slope_of(a.activation, sum);
  }
}

template <class Act>
__global__ void wide_inputs(conv1d_backward_args<Act> a, const float* d_sums) {
  __shared__ tile_memory m;
  const tile_place at = place_of(a, tile);
  const int width = static_cast<int>(a.width), first = threadIdx.y * few;
  load_taps(a, at, true, m);
  load_window(at.begin, tile + width - 1, m,
              [&](std::int64_t t) { return at.inside && t < a.length ? d_sums[(at.b * a.length + t) * a.channels + at.c] : 0.0F; });
  __syncthreads();
  float sums[few];
  sum_rows(m, first, width, sums);
  if (!at.inside) return;
  const float skip = a.skip ? a.skip[at.c] : 0;
  for (int i = 0; i < few; ++i) {
    const std::int64_t t = at.begin + first + i;
    if (t >= at.end) break;
    a.dx[(at.b * a.length + t) * a.dx_stride + at.c] =
        narrow<Act>(conv_final(a, at.b, t, at.c) + sums[i] + skip * m.window[first + i][threadIdx.x]);
  }
}

/// What a run of rows adds to d_weight, d_bias and d_skip. A thread sums taps [threadIdx.y * per, ...), per = taps_max / warps.
template <class Act>
__global__ void wide_weights(conv1d_backward_args<Act> a, const float* d_sums, float* partial) {
  constexpr int per = taps_max / warps;
  __shared__ tile_memory m;  // taps: d_sums of a tile
  const tile_place at = place_of(a, wide_run);
  const int width = static_cast<int>(a.width), first = threadIdx.y * per;
  float sums[per] = {}, d_bias = 0, d_skip = 0;
  for (std::int64_t begin = at.begin; begin < at.end; begin += tile) {
    __syncthreads();
    load_window(begin - (width - 1), tile + width - 1, m, [&](std::int64_t t) { return backward_input(a, at, t); });
    for (int i = threadIdx.y; i < tile; i += warps)
      m.taps[i][threadIdx.x] = at.inside && begin + i < at.end ? d_sums[(at.b * a.length + begin + i) * a.channels + at.c] : 0.0F;
    __syncthreads();
    for (int t = 0; t < tile; ++t) {
      const float d = m.taps[t][threadIdx.x];
#pragma unroll
      for (int k = 0; k < per; ++k)
        if (first + k < width) sums[k] += d * m.window[t + first + k][threadIdx.x];
      if (threadIdx.y == 0) {
        d_bias += d;
        d_skip += d * m.window[t + width - 1][threadIdx.x];
      }
    }
  }
  if (!at.inside) return;
  float* mine = partial + (static_cast<std::int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) * a.channels * (width + 2);
  for (int k = 0; k < per; ++k)
    if (first + k < width) mine[at.c * width + first + k] = sums[k];
  if (threadIdx.y != 0) return;
  mine[a.channels * width + at.c] = d_bias;
  mine[a.channels * (width + 1) + at.c] = d_skip;
}

}  // namespace

template <class Act>
void conv1d_wide(queue& q, const conv1d_args<Act>& a) {
  launch(q, "conv1d of many taps", wide_rows<Act>, grid_of(a, tile), block_of, 0, a);
}

template <class Act>
void conv1d_wide_backward(queue& q, const conv1d_backward_args<Act>& a, float* d_sums, float* partial) {
  launch(q, "conv1d_backward's slopes", wide_slopes<Act>, grid_of(a, tile), block_of, 0, a, d_sums);
  launch(q, "conv1d_backward's inputs", wide_inputs<Act>, grid_of(a, tile), block_of, 0, a, d_sums);
  launch(q, "conv1d_backward's weights", wide_weights<Act>, grid_of(a, wide_run), block_of, 0, a, d_sums, partial);
}

#define ISTHMUS_FOR(Act)                                      \
  template void conv1d_wide(queue&, const conv1d_args<Act>&); \
  template void conv1d_wide_backward(queue&, const conv1d_backward_args<Act>&, float*, float*);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
