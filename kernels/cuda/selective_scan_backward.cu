// The backward pass of selective_scan.cu, chunks last to first: a chunk's states are computed again from the one kept before it and
// written to memory, then the thread walks back. Sums over channels: a tree over the lanes of a warp, then warps, then blocks ascending.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/ops.hpp"
#include "kernels/cuda/selective_scan.cuh"

namespace isthmus::kernels::cuda {

namespace {

constexpr int scan_warps = scan_threads / warp_size;

/// What blocks leave behind. before: [batch, chunk, N, channels], h before each row of the chunk; bc: [blocks, rows, 2, state], shares of
/// db and dc; parameters: [batch, channels * (state + 2)], shares of d_a_log, d_dt_bias and d_d.
struct scan_partial {
  float *before, *bc, *parameters;
};

/// The sum of v[n] over the lanes of the warp to out[n], n < N <= 32: halves of the numbers are swapped for halves of the lanes.
template <int N>
__device__ void sum_over_lanes(float* v, float* out) {
  const int lane = threadIdx.x % warp_size;
  int bit = warp_size / 2;
#pragma unroll
  for (int half = N / 2; half > 0; half /= 2, bit /= 2) {
    const bool upper = lane & bit;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float other = __shfl_xor_sync(~0U, upper ? v[i] : v[i + half], bit);
      v[i] = (upper ? v[i + half] : v[i]) + other;
    }
  }
  for (; bit > 0; bit /= 2) v[0] += __shfl_xor_sync(~0U, v[0], bit);
  if (lane % (warp_size / N) == 0) out[lane / (warp_size / N)] = v[0];
}
template <int N>
__device__ void sum_all_over_lanes(float (&v)[N], float* out) {
  if constexpr (N <= warp_size) {
    sum_over_lanes<N>(v, out);
  } else {
    sum_over_lanes<warp_size>(v, out);
    sum_all_over_lanes(reinterpret_cast<float(&)[N - warp_size]>(v[warp_size]), out + warp_size);
  }
}

/// h before each row of the chunk [begin, begin + count), to before[t * N + n][channel].
template <class Act, int N>
__device__ void scan_again(const selective_scan_backward_args<Act>& a, const scan_place& at, std::int64_t begin, std::int64_t count,
                           const float* kept, const float (&rate)[N], float (&b)[scan_run][N], float* before) {
  float h[N];
#pragma unroll
  for (int n = 0; n < N; ++n) h[n] = at.there && n < a.state ? kept[at.e * a.state + n] : 0.0F;
  for (std::int64_t first = 0; first < count; first += scan_run) {
    const std::int64_t rows = least(scan_run, count - first);
    __syncthreads();
    fill_scan_rows(a.b + (begin + first) * a.bc_stride, a.bc_stride, rows, a.state, b);
    __syncthreads();
    if (!at.there) continue;
    for (int t = 0; t < rows; ++t) {
      const scan_row r = scan_row_of(a, at, begin + first + t);
#pragma unroll
      for (int n = 0; n < N; ++n) {
        before[((first + t) * N + n) * a.channels + at.e] = h[n];
        h[n] = exp2f(r.delta * rate[n]) * h[n] + r.delta * r.x * b[t][n];
      }
    }
  }
}

/// What a thread carries from row to row.
template <int N>
struct scan_sums {
  float adjoint[N], d_rate[N], d_bias, d_skip;
};

/// One row back. b, c: [N]; of_bc: this warp's shares of the row's db and dc, [2][N].
template <class Act, int N>
__device__ void scan_row_back(const selective_scan_backward_args<Act>& a, const scan_place& at, std::int64_t row, const float* b,
                              const float* c, const float* before, const float (&rate)[N], scan_sums<N>& sums, float* of_bc) {
  const scan_row r = scan_row_of(a, at, row);
  const float moved = r.delta * r.x, d_out = at.there ? wide(a.dy[row * a.channels + at.e]) : 0.0F;
  const float skip = at.there ? a.d[at.e] : 0.0F, z = at.there && a.z ? wide(a.z[row * a.z_stride + at.e]) : 0.0F;
  const float gate = sigmoid(z), dy = a.z ? d_out * z * gate : d_out;
  float y = skip * r.x, along_b = 0, d_exponents = 0, db[N], dc[N];
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const float h = at.there ? before[n * a.channels + at.e] : 0.0F, decay = exp2f(r.delta * rate[n]), after = decay * h + moved * b[n];
    const float g = sums.adjoint[n] + dy * c[n];
    y += c[n] * after;
    dc[n] = dy * after;
    db[n] = g * moved;
    along_b += g * b[n];
    sums.adjoint[n] = g * decay;
    const float d_exponent = sums.adjoint[n] * h;
    d_exponents += d_exponent * rate[n];
    sums.d_rate[n] += d_exponent * r.delta;
  }
  sum_all_over_lanes(db, of_bc);
  sum_all_over_lanes(dc, of_bc + N);
  if (!at.there) return;
  const float d_raw = (d_exponents * log_of_2 + along_b * r.x) * sigmoid(r.pre);
  a.dx[row * a.dx_stride + at.e] = narrow<Act>(r.delta * along_b + skip * dy);
  a.d_dt[row * a.d_dt_stride + at.e] = narrow<Act>(d_raw);
  if (a.z) a.dz[row * a.dz_stride + at.e] = narrow<Act>(d_out * y * silu_slope(z, gate));
  sums.d_bias += d_raw;
  sums.d_skip += dy * r.x;
}

template <class Act, int N>
__global__ void __launch_bounds__(scan_threads) scan_channels_back(selective_scan_backward_args<Act> a, scan_partial partial) {
  __shared__ float b[scan_run][N], c[scan_run][N], of_warps[scan_run][scan_warps][2 * N];
  const scan_place at(a.channels);
  const std::int64_t carried = (at.batch * a.channels + at.e) * a.state, chunks = (a.length + a.chunk - 1) / a.chunk;
  float* before = partial.before + at.batch * least(a.chunk, a.length) * N * a.channels;
  float* of_block = partial.bc + blockIdx.x * a.batch * a.length * 2 * a.state;
  float rate[N];
  scan_sums<N> sums{};
  scan_rates(a, at, rate);
#pragma unroll
  for (int n = 0; n < N; ++n) sums.adjoint[n] = at.there && a.d_final && n < a.state ? a.d_final[carried + n] : 0.0F;
  for (std::int64_t k = chunks - 1; k >= 0; --k) {
    const std::int64_t begin = at.batch * a.length + k * a.chunk, count = least(a.chunk, a.length - k * a.chunk);
    scan_again(a, at, begin, count, a.states + (at.batch * chunks + k) * a.state * a.channels, rate, b, before);
    for (std::int64_t first = (count - 1) / scan_run * scan_run; first >= 0; first -= scan_run) {
      const std::int64_t rows = least(scan_run, count - first), row = begin + first;
      __syncthreads();
      fill_scan_rows(a.b + row * a.bc_stride, a.bc_stride, rows, a.state, b);
      fill_scan_rows(a.c + row * a.bc_stride, a.bc_stride, rows, a.state, c);
      __syncthreads();
      for (int t = static_cast<int>(rows) - 1; t >= 0; --t)
        scan_row_back(a, at, row + t, b[t], c[t], before + (first + t) * N * a.channels, rate, sums, of_warps[t][threadIdx.x / warp_size]);
      __syncthreads();
      for (std::int64_t i = threadIdx.x; i < rows * 2 * a.state; i += scan_threads) {
        const std::int64_t t = i / (2 * a.state), side = i / a.state % 2, n = i % a.state;
        float sum = 0;
        for (int w = 0; w < scan_warps; ++w) sum += of_warps[t][w][side * N + n];
        of_block[row * 2 * a.state + i] = sum;
      }
    }
  }
  if (!at.there) return;
  float* mine = partial.parameters + at.batch * a.channels * (a.state + 2);
#pragma unroll
  for (int n = 0; n < N; ++n) {
    if (n >= a.state) continue;
    mine[at.e * a.state + n] = sums.d_rate[n] * rate[n] * log_of_2;  // d(rate) rate = d(a_log)
    if (a.d_initial) a.d_initial[carried + n] = sums.adjoint[n];
  }
  mine[a.channels * a.state + at.e] = sums.d_bias;
  mine[a.channels * (a.state + 1) + at.e] = sums.d_skip;
}

/// db and dc out of the blocks' shares, ascending: a thread a number.
template <class Act>
__global__ void add_scan_blocks(selective_scan_backward_args<Act> a, std::int64_t blocks, const float* bc) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, count = a.batch * a.length * 2 * a.state;
  if (i >= count) return;
  float sum = 0;
  for (std::int64_t k = 0; k < blocks; ++k) sum += bc[k * count + i];
  const std::int64_t row = i / (2 * a.state), n = i % a.state;
  (i / a.state % 2 == 0 ? a.db : a.dc)[row * a.d_bc_stride + n] = narrow<Act>(sum);
}

}  // namespace

template <class Act>
void selective_scan_backward(stream& s, const selective_scan_backward_args<Act>& a) {
  queue& q = queue_of(s);
  if (a.batch * a.channels == 0) return;
  for_scan_state(a.state, [&]<int N>() {
    const std::int64_t rows = a.batch * a.length, blocks = ceil_div(a.channels, scan_threads), shares = a.channels * (a.state + 2);
    const std::int64_t before = a.batch * least(a.chunk, a.length) * N * a.channels, bc = blocks * rows * 2 * a.state;
    float* memory = q.scratch_floats(before + bc + a.batch * shares);
    const scan_partial partial{memory, memory + before, memory + before + bc};
    launch(q, "selective_scan_backward", scan_channels_back<Act, N>, scan_grid(a.batch, a.channels), scan_threads, 0, a, partial);
    launch(q, "selective_scan's db and dc", add_scan_blocks<Act>, static_cast<unsigned>(ceil_div(rows * 2 * a.state, 128)), 128, 0, a,
           blocks, partial.bc);
    const std::int64_t rates = a.channels * a.state;
    add_partial_sums(q, partial.parameters, a.batch, shares, rates, a.d_a_log);
    add_partial_sums(q, partial.parameters + rates, a.batch, shares, a.channels, a.d_dt_bias);
    add_partial_sums(q, partial.parameters + rates + a.channels, a.batch, shares, a.channels, a.d_d);
  });
}

template void selective_scan_backward(stream&, const selective_scan_backward_args<float>&);
template void selective_scan_backward(stream&, const selective_scan_backward_args<bf16>&);

}  // namespace isthmus::kernels::cuda
