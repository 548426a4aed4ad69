#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda {

namespace {

constexpr int threads = 256;

struct wide_complex {
  double re, im;
};
__device__ wide_complex operator*(wide_complex a, wide_complex b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }

__device__ wide_complex power(wide_complex x, std::int64_t k) {
  wide_complex y{1, 0};
  for (; k > 0; k /= 2, x = x * x)
    if (k % 2 == 1) y = y * x;
  return y;
}
__device__ wide_complex mode_at(modal_form form, const float* at, std::int64_t i) {
  if (form == modal_form::complex) return {static_cast<double>(at[2 * i]), static_cast<double>(at[2 * i + 1])};
  return {static_cast<double>(at[i]), 0};
}
__device__ wide_complex pole_at(modal_form form, const float* poles, std::int64_t i) {
  if (form == modal_form::complex) return mode_at(form, poles, i);
  return {exp(static_cast<double>(poles[i])), 0};
}

constexpr int taps_a_thread = 16;  // `threads` apart from each other

__global__ void filter_taps(modal_filter_args<float> a) {
  const std::int64_t f = blockIdx.y, first = static_cast<std::int64_t>(blockIdx.x) * threads * taps_a_thread + threadIdx.x;
  float sums[taps_a_thread] = {};
  for (std::int64_t n = f * a.modes; n < (f + 1) * a.modes; ++n) {
    const wide_complex pole = pole_at(a.form, a.poles, n), step = power(pole, threads);
    wide_complex term = mode_at(a.form, a.residues, n) * power(pole, first);
#pragma unroll
    for (int i = 0; i < taps_a_thread; ++i, term = term * step) sums[i] += static_cast<float>(term.re);
  }
  for (int i = 0; i < taps_a_thread; ++i)
    if (const std::int64_t k = first + i * threads; k < a.taps) a.h[f * a.taps + k] = sums[i];
}

/// One mode of one filter: its sums over k of dh_k p^k and of dh_k k p^(k-1), a tree of fixed order.
__global__ void filter_gradients(modal_filter_backward_args<float> a) {
  __shared__ wide_complex sums[threads], slopes[threads];
  const std::int64_t f = blockIdx.y, i = f * a.modes + blockIdx.x;
  const wide_complex pole = pole_at(a.form, a.poles, i), step = power(pole, threads);
  wide_complex sum{0, 0}, slope{0, 0}, below = threadIdx.x == 0 ? wide_complex{0, 0} : power(pole, threadIdx.x - 1);  // p^(k-1)
  for (std::int64_t k = threadIdx.x; k < a.taps; k += threads) {
    const auto g = static_cast<double>(a.dh[f * a.taps + k]);
    const wide_complex here = k == 0 ? wide_complex{1, 0} : below * pole;
    sum = {sum.re + g * here.re, sum.im + g * here.im};
    slope = {slope.re + g * static_cast<double>(k) * below.re, slope.im + g * static_cast<double>(k) * below.im};
    below = k == 0 ? power(pole, threads - 1) : below * step;
  }
  sums[threadIdx.x] = sum;
  slopes[threadIdx.x] = slope;
  for (unsigned half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
    const wide_complex other = sums[threadIdx.x + half], far = slopes[threadIdx.x + half];
    sums[threadIdx.x] = {sums[threadIdx.x].re + other.re, sums[threadIdx.x].im + other.im};
    slopes[threadIdx.x] = {slopes[threadIdx.x].re + far.re, slopes[threadIdx.x].im + far.im};
  }
  if (threadIdx.x != 0) return;
  const wide_complex q = slopes[0] * mode_at(a.form, a.residues, i);
  if (a.form == modal_form::complex) {
    a.d_residues[2 * i] += static_cast<float>(sums[0].re);
    a.d_residues[2 * i + 1] -= static_cast<float>(sums[0].im);
    a.d_poles[2 * i] += static_cast<float>(q.re);
    a.d_poles[2 * i + 1] -= static_cast<float>(q.im);
  } else {
    a.d_residues[i] += static_cast<float>(sums[0].re);
    a.d_poles[i] += static_cast<float>(q.re * pole.re);
  }
}

// The scan in chunks of rows: what each chunk adds to the state, the states before the chunks, and then each chunk from its own.
constexpr int chunk = 64, scan_threads = 64;

/// One mode in registers; a pole near one is known by its distance from one.
struct mode_state {
  float re, im, less_one_re, pole_im;

  template <class Act>
  __device__ static mode_state of(const modal_scan_args<Act>& a, std::int64_t i, float re, float im) {
    if (a.form == modal_form::complex) return {re, im, a.poles[2 * i] - 1, a.poles[2 * i + 1]};
    return {re, im, expm1f(a.poles[i]), 0};
  }
  __device__ void move(float w) {
    const float next = re + (re * less_one_re - im * pole_im + w);
    im = im + (re * pole_im + im * less_one_re);
    re = next;
  }
};
template <class Act>
__device__ std::int64_t parts_of(const modal_scan_args<Act>& a) {
  return a.form == modal_form::complex ? 2 : 1;
}
template <class Act>
__device__ float input_at(const modal_scan_args<Act>& a, std::int64_t row, std::int64_t c) {
  const float v = wide(a.v[row * a.x_stride + c]);
  return a.x1 ? v * wide(a.x1[row * a.x_stride + c]) : v;
}

/// Where a thread works: channel c, chunk k, sequence b. States of chunks are [batch, chunks, modes, parts, channels].
struct scan_place {
  std::int64_t c, k, b, begin, end;
  template <class Act>
  __device__ explicit scan_place(const modal_scan_args<Act>& a)
      : c(static_cast<std::int64_t>(blockIdx.x) * scan_threads + threadIdx.x),
        k(blockIdx.y),
        b(blockIdx.z),
        begin(k * chunk),
        end(least(begin + chunk, a.length)) {}
  template <class Act>
  __device__ std::int64_t state(const modal_scan_args<Act>& a, std::int64_t chunks, std::int64_t n, std::int64_t part) const {
    return (((b * chunks + k) * a.modes + n) * parts_of(a) + part) * a.channels + c;
  }
};

template <class Act>
__global__ void added_states(modal_scan_args<Act> a, float* states) {
  const scan_place at(a);
  if (at.c >= a.channels) return;
  for (std::int64_t n = 0; n < a.modes; ++n) {
    mode_state m = mode_state::of(a, at.c * a.modes + n, 0, 0);
    for (std::int64_t t = at.begin; t < at.end; ++t) m.move(input_at(a, at.b * a.length + t, at.c));
    states[at.state(a, gridDim.y, n, 0)] = m.re;
    if (parts_of(a) == 2) states[at.state(a, gridDim.y, n, 1)] = m.im;
  }
}

/// states: what chunks add becomes the state before each. Blocks are [channels, modes, sequence].
template <class Act>
__global__ void join_states(modal_scan_args<Act> a, float* states, std::int64_t chunks) {
  scan_place at(a);
  const std::int64_t n = blockIdx.y, own = ((at.b * a.channels + at.c) * a.modes + n) * parts_of(a);
  if (at.c >= a.channels) return;
  const wide_complex step = power(pole_at(a.form, a.poles, at.c * a.modes + n), chunk);
  const auto step_re = static_cast<float>(step.re), step_im = static_cast<float>(step.im);
  const bool both = parts_of(a) == 2;
  float re = a.initial ? a.initial[own] : 0, im = a.initial && both ? a.initial[own + 1] : 0;
  for (at.k = 0; at.k < chunks; ++at.k) {
    float* to_re = states + at.state(a, chunks, n, 0);
    float* to_im = states + at.state(a, chunks, n, 1);
    const float next_re = re * step_re - im * step_im + *to_re, next_im = both ? re * step_im + im * step_re + *to_im : 0;
    *to_re = re;
    if (both) *to_im = im;
    re = next_re;
    im = next_im;
  }
}

/// states: before each chunk, or null where there is one chunk, which begins with a.initial.
template <class Act>
__global__ void scan_chunks(modal_scan_args<Act> a, const float* states) {
  __shared__ float inputs[chunk][scan_threads], sums[chunk][scan_threads];
  const scan_place at(a);
  if (at.c >= a.channels) return;
  const int rows = static_cast<int>(at.end - at.begin), parts = static_cast<int>(parts_of(a)), me = threadIdx.x;
  const float d = a.d ? a.d[at.c] : 0;
  for (int t = 0; t < rows; ++t) {
    inputs[t][me] = input_at(a, at.b * a.length + at.begin + t, at.c);
    sums[t][me] = d * inputs[t][me];
  }
  for (std::int64_t n = 0; n < a.modes; ++n) {
    const std::int64_t i = at.c * a.modes + n, own = (at.b * a.channels + at.c) * a.modes * parts + n * parts;
    float re = 0, im = 0;
    if (states) {
      re = states[at.state(a, gridDim.y, n, 0)];
      if (parts == 2) im = states[at.state(a, gridDim.y, n, 1)];
    } else if (a.initial) {
      re = a.initial[own];
      if (parts == 2) im = a.initial[own + 1];
    }
    mode_state m = mode_state::of(a, i, re, im);
    const float residue_re = a.residues[i * parts], residue_im = parts == 2 ? a.residues[i * parts + 1] : 0;
    for (int t = 0; t < rows; ++t) {
      m.move(inputs[t][me]);
      sums[t][me] += residue_re * m.re - residue_im * m.im;
    }
    if (a.final && at.end == a.length) {
      a.final[own] = m.re;
      if (parts == 2) a.final[own + 1] = m.im;
    }
  }
  for (int t = 0; t < rows; ++t) {
    const std::int64_t row = at.b * a.length + at.begin + t;
    a.y[row * a.y_stride + at.c] = narrow<Act>(a.x2 ? sums[t][me] * wide(a.x2[row * a.x_stride + at.c]) : sums[t][me]);
  }
}

}  // namespace

void modal_filter(stream& s, const modal_filter_args<float>& a) {
  launch(queue_of(s), "modal_filter", filter_taps,
         dim3(static_cast<unsigned>(ceil_div(a.taps, threads * taps_a_thread)), static_cast<unsigned>(a.filters)), threads, 0, a);
}

void modal_filter_backward(stream& s, const modal_filter_backward_args<float>& a) {
  launch(queue_of(s), "modal_filter_backward", filter_gradients, dim3(static_cast<unsigned>(a.modes), static_cast<unsigned>(a.filters)),
         threads, 0, a);
}

template <class Act>
void modal_scan(stream& s, const modal_scan_args<Act>& a) {
  queue& q = queue_of(s);
  const std::int64_t chunks = ceil_div(a.length, chunk), parts = a.form == modal_form::complex ? 2 : 1;
  const auto grid = [&](std::int64_t middle) {
    return dim3(static_cast<unsigned>(ceil_div(a.channels, scan_threads)), static_cast<unsigned>(middle), static_cast<unsigned>(a.batch));
  };
  float* states = nullptr;
  if (chunks > 1) {
    states = q.scratch_floats(a.batch * chunks * a.modes * parts * a.channels);
    launch(q, "modal_scan's chunks", added_states<Act>, grid(chunks), scan_threads, 0, a, states);
    launch(q, "modal_scan's states", join_states<Act>, grid(a.modes), scan_threads, 0, a, states, chunks);
  }
  launch(q, "modal_scan", scan_chunks<Act>, grid(chunks), scan_threads, 0, a, states);
}

template <class Act>
void modal_step(stream& s, const modal_step_args<Act>& a) {
  modal_scan<Act>(s, one_row_of(a));
}

#define ISTHMUS_FOR(Act)                                          \
  template void modal_scan(stream&, const modal_scan_args<Act>&); \
  template void modal_step(stream&, const modal_step_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
