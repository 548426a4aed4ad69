#include "kernels/cuda/fourier.cuh"
#include "kernels/cuda/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::cuda {

namespace {

constexpr int side = 32, lines = 8;  // of a square that is turned: rows come in with channels side by side, transforms want time so
constexpr int threads = 256;

/// Some channels of all sequences, and their transforms: row b * channels + c of N points.
struct part {
  std::int64_t batch, length, first, channels, points;
  dim3 squares(std::int64_t of_length) const {
    return {static_cast<unsigned>(ceil_div(of_length, side)), static_cast<unsigned>(ceil_div(channels, side)),
            static_cast<unsigned>(batch)};
  }
};

/// a, or its product with b, [batch * length, channels].
template <class Act>
struct gated_rows {
  const Act *a, *b;
  std::int64_t a_stride, b_stride;
  __device__ float operator()(std::int64_t row, std::int64_t c) const {
    const float x = wide(a[row * a_stride + c]);
    return b ? x * wide(b[row * b_stride + c]) : x;
  }
};

/// data <- the rows, with zeros behind.
template <class Act>
__global__ void load_points(part p, gated_rows<Act> rows, float2* data) {
  __shared__ float square[side][side + 1];
  const std::int64_t t0 = static_cast<std::int64_t>(blockIdx.x) * side, c0 = static_cast<std::int64_t>(blockIdx.y) * side;
  for (int i = threadIdx.y; i < side; i += lines) {
    const std::int64_t t = t0 + i, c = c0 + threadIdx.x;
    square[i][threadIdx.x] = t < p.length && c < p.channels ? rows(blockIdx.z * p.length + t, p.first + c) : 0.0F;
  }
  __syncthreads();
  for (int i = threadIdx.y; i < side; i += lines) {
    const std::int64_t t = t0 + threadIdx.x, c = c0 + i;
    if (t < p.points && c < p.channels) data[(blockIdx.z * p.channels + c) * p.points + t] = {square[threadIdx.x][i], 0};
  }
}

/// What is made of a convolved row: first = x * by, second = x * other, both optional.
template <class Act>
struct row_results {
  Act *first, *second;
  const Act *by, *other;
  std::int64_t stride, by_stride, other_stride;
  __device__ void operator()(std::int64_t row, std::int64_t c, float x) const {
    first[row * stride + c] = narrow<Act>(by ? x * wide(by[row * by_stride + c]) : x);
    if (second) second[row * stride + c] = narrow<Act>(x * wide(other[row * other_stride + c]));
  }
};

template <class Act>
__global__ void store_points(part p, const float2* data, float scale, row_results<Act> results) {
  __shared__ float square[side][side + 1];
  const std::int64_t t0 = static_cast<std::int64_t>(blockIdx.x) * side, c0 = static_cast<std::int64_t>(blockIdx.y) * side;
  for (int i = threadIdx.y; i < side; i += lines) {
    const std::int64_t t = t0 + threadIdx.x, c = c0 + i;
    if (t < p.length && c < p.channels) square[i][threadIdx.x] = data[(blockIdx.z * p.channels + c) * p.points + t].x * scale;
  }
  __syncthreads();
  for (int i = threadIdx.y; i < side; i += lines) {
    const std::int64_t t = t0 + i, c = c0 + threadIdx.x;
    if (t < p.length && c < p.channels) results(blockIdx.z * p.length + t, p.first + c, square[threadIdx.x][i]);
  }
}

/// Filters of channels, [filters, taps]; d: [channels].
struct channel_filters {
  const float *h, *h_back, *d;
  std::int64_t sharers, stride, taps;  // taps that are used
};

/// data [channels, N] <- lags 0 ... as real parts; lag -(s + 1) is z^(2N - 1 - s), whose place is the imaginary part of z^(N - 1 - s).
__global__ void load_taps(part p, channel_filters f, float2* data) {
  const std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, c = blockIdx.y, s = p.points - 1 - t;
  if (t >= p.points) return;
  const std::int64_t at = (p.first + c) / f.sharers * f.stride;
  float2 x{t < f.taps ? f.h[at + t] : 0.0F, f.h_back && s < f.taps && s < p.length - 1 ? -f.h_back[at + s] : 0.0F};
  if (f.d && t == 0) x.x += f.d[p.first + c];
  data[c * p.points + t] = x;
}

/// data [batch, channels, N] *= filters [channels, N].
__global__ void multiply_points(part p, float2* data, const float2* filters) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, c = blockIdx.y;
  if (i >= p.points) return;
  const float2 by = filters[c * p.points + i];
  for (std::int64_t b = 0; b < p.batch; ++b) {
    float2& x = data[(b * p.channels + c) * p.points + i];
    x = times(x, by);
  }
}

/// sums [channels, N] = sum_b dc conj(w); dc *= conj(filters), w *= filters.
__global__ void gradient_points(part p, float2* w, float2* dc, const float2* filters, float2* sums) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, c = blockIdx.y;
  if (i >= p.points) return;
  const float2 by = filters[c * p.points + i];
  float2 sum{0, 0};
  for (std::int64_t b = 0; b < p.batch; ++b) {
    const std::int64_t at = (b * p.channels + c) * p.points + i;
    const float2 d = dc[at], x = w[at], added = times(d, conjugate(x));
    sum = {sum.x + added.x, sum.y + added.y};
    dc[at] = times(d, conjugate(by));
    w[at] = times(x, by);
  }
  sums[c * p.points + i] = sum;
}

/// dh, dh_back, dd += what sums [channels, N] hold, channels that share a filter in order.
__global__ void add_taps(part p, const float2* sums, float scale, channel_filters f, float* dh, float* dh_back, float* dd) {
  const std::int64_t k = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x, filter = blockIdx.y;
  if (k >= f.taps) return;
  float ahead = 0, back = 0;
  for (std::int64_t c = filter * f.sharers; c < (filter + 1) * f.sharers; ++c) {
    ahead += sums[c * p.points + k].x;
    back -= sums[c * p.points + p.points - 1 - k].y;
    if (f.d && k == 0) dd[p.first + c] += sums[c * p.points].x * scale;
  }
  const std::int64_t at = (p.first / f.sharers + filter) * f.stride + k;
  dh[at] += ahead * scale;
  if (f.h_back && k < p.length - 1) dh_back[at] += back * scale;
}

/// body(part) for channels that fit together into bounded scratch memory of `arrays` arrays a sequence and two a channel.
template <class Args, class Body>
void over_parts(const Args& a, const fourier_plan& p, std::int64_t arrays, Body body) {
  constexpr std::int64_t points_max = std::int64_t{1} << 26, channels_max = 65535;
  const std::int64_t sharers = a.channels / a.filters, each = (arrays * a.batch + 2) * p.points();
  const std::int64_t whole = std::clamp<std::int64_t>(points_max / each, 1, channels_max),
                     filters = std::max<std::int64_t>(1, whole / sharers);
  for (std::int64_t c = 0; c < a.channels && a.batch > 0; c += filters * sharers)
    body(part{a.batch, a.length, c, std::min(filters * sharers, a.channels - c), p.points()});
}

dim3 grid_of(std::int64_t points, std::int64_t rows) {
  return {static_cast<unsigned>(ceil_div(points, threads)), static_cast<unsigned>(rows)};
}

template <class Args>
channel_filters filters_of(const Args& a) {
  return {a.h, a.h_back, a.d, a.channels / a.filters, a.taps, std::min(a.taps, a.length)};
}

}  // namespace

std::unique_ptr<long_conv_plan> make_long_conv_plan(std::int64_t length) { return std::make_unique<fourier_plan>(length); }

template <class Act>
void long_conv(stream& s, const long_conv_args<Act>& a) {
  queue& q = queue_of(s);
  auto& plan = *static_cast<fourier_plan*>(a.plan);
  const dim3 square(side, lines);
  const float scale = 1 / static_cast<float>(plan.points());
  over_parts(a, plan, 1, [&](const part& p) {
    auto* filters = reinterpret_cast<float2*>(q.scratch(static_cast<std::size_t>((a.batch + 1) * p.channels * p.points) * sizeof(float2)));
    float2* data = filters + p.channels * p.points;
    launch(q, "long_conv's taps", load_taps, grid_of(p.points, p.channels), threads, 0, p, filters_of(a), filters);
    transform(q, plan, filters, p.channels, false);
    launch(q, "long_conv's rows", load_points<Act>, p.squares(p.points), square, 0, p, gated_rows<Act>{a.v, a.x1, a.x_stride, a.x_stride},
           data);
    transform(q, plan, data, a.batch * p.channels, false);
    launch(q, "long_conv's product", multiply_points, grid_of(p.points, p.channels), threads, 0, p, data, filters);
    transform(q, plan, data, a.batch * p.channels, true);
    launch(q, "long_conv's result", store_points<Act>, p.squares(a.length), square, 0, p, data, scale,
           row_results<Act>{a.y, nullptr, a.x2, nullptr, a.y_stride, a.x_stride, 0});
  });
}

template <class Act>
void long_conv_backward(stream& s, const long_conv_backward_args<Act>& a) {
  queue& q = queue_of(s);
  auto& plan = *static_cast<fourier_plan*>(a.plan);
  const dim3 square(side, lines);
  const float scale = 1 / static_cast<float>(plan.points());
  const channel_filters f = filters_of(a);
  over_parts(a, plan, 2, [&](const part& p) {
    const std::int64_t each = p.channels * p.points, rows = a.batch * p.channels;
    auto* filters = reinterpret_cast<float2*>(q.scratch(static_cast<std::size_t>((2 * a.batch + 2) * each) * sizeof(float2)));
    float2 *sums = filters + each, *w = sums + each, *dc = w + a.batch * each;
    launch(q, "long_conv_backward's taps", load_taps, grid_of(p.points, p.channels), threads, 0, p, f, filters);
    launch(q, "long_conv_backward's rows", load_points<Act>, p.squares(p.points), square, 0, p,
           gated_rows<Act>{a.v, a.x1, a.x_stride, a.x_stride}, w);
    launch(q, "long_conv_backward's rows", load_points<Act>, p.squares(p.points), square, 0, p,
           gated_rows<Act>{a.dy, a.x2, a.dy_stride, a.x_stride}, dc);
    transform(q, plan, filters, p.channels, false);
    transform(q, plan, w, 2 * rows, false);  // and dc, which lies behind it
    launch(q, "long_conv_backward's products", gradient_points, grid_of(p.points, p.channels), threads, 0, p, w, dc, filters, sums);
    transform(q, plan, dc, rows, true);
    launch(q, "long_conv_backward's inputs", store_points<Act>, p.squares(a.length), square, 0, p, dc, scale,
           row_results<Act>{a.dv, a.x1 ? a.dx1 : nullptr, a.x1, a.v, a.dx_stride, a.x_stride, a.x_stride});
    if (a.x2) {
      transform(q, plan, w, rows, true);
      launch(q, "long_conv_backward's gate", store_points<Act>, p.squares(a.length), square, 0, p, w, scale,
             row_results<Act>{a.dx2, nullptr, a.dy, nullptr, a.dx_stride, a.dy_stride, 0});
    }
    transform(q, plan, sums, p.channels, true);
    launch(q, "long_conv_backward's taps", add_taps, grid_of(f.taps, p.channels / f.sharers), threads, 0, p, sums, scale, f, a.dh,
           a.dh_back, a.dd);
  });
}

#define ISTHMUS_FOR(Act)                                        \
  template void long_conv(stream&, const long_conv_args<Act>&); \
  template void long_conv_backward(stream&, const long_conv_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
