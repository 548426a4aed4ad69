#include "kernels/cuda/column_sums.cuh"
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
constexpr int chunk = modal_scan_chunk, scan_threads = 64;

/// One mode in registers; a pole near one is known by its distance from one.
struct mode_state {
  float re, im, less_one_re, pole_im;

  template <class Args>
  __device__ static mode_state of(const Args& a, std::int64_t i, float re, float im) {
    if (a.form == modal_form::complex) return {re, im, a.poles[2 * i] - 1, a.poles[2 * i + 1]};
    return {re, im, expm1f(a.poles[i]), 0};
  }
  __device__ void move(float w) {
    const float next = re + (re * less_one_re - im * pole_im + w);
    im = im + (re * pole_im + im * less_one_re);
    re = next;
  }
};
template <class Args>
__host__ __device__ std::int64_t parts_of(const Args& a) {
  return a.form == modal_form::complex ? 2 : 1;
}
template <class Args>
__device__ float input_at(const Args& a, std::int64_t row, std::int64_t c) {
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
    if (a.states) {
      float* kept = a.states + (((at.b * gridDim.y + at.k) * a.channels + at.c) * a.modes + n) * parts;
      kept[0] = re;
      if (parts == 2) kept[1] = im;
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

constexpr int back_threads = 32;

/// What a thread of the backward pass has of its channel, a chunk of rows: w, the sums that x2 multiplies, their gradient, that of w.
struct back_rows {
  float w[chunk][back_threads], sums[chunk][back_threads], d_sums[chunk][back_threads], dw[chunk][back_threads];
};
/// The gradient of a mode's state, and what the mode's parameters get of one sequence.
struct mode_gradient {
  float re, im, pole_re, pole_im, residue_re, residue_im;
};

/// One mode over the rows of a chunk: there, from the state before it, and back.
__device__ void mode_back(back_rows& rows, int count, mode_state m, float residue_re, float residue_im, mode_gradient& g) {
  const int me = threadIdx.x;
  float re[chunk + 1], im[chunk + 1];
  re[0] = m.re, im[0] = m.im;
  for (int t = 0; t < count; ++t) {
    m.move(rows.w[t][me]);
    re[t + 1] = m.re, im[t + 1] = m.im;
    rows.sums[t][me] += residue_re * m.re - residue_im * m.im;
  }
  for (int t = count - 1; t >= 0; --t) {
    const float d_sum = rows.d_sums[t][me];
    g.residue_re += d_sum * re[t + 1];
    g.residue_im -= d_sum * im[t + 1];
    g.re += d_sum * residue_re;
    g.im -= d_sum * residue_im;
    rows.dw[t][me] += g.re;
    g.pole_re += g.re * re[t] + g.im * im[t];
    g.pole_im += g.im * re[t] - g.re * im[t];
    const float next = g.re + (g.re * m.less_one_re + g.im * m.pole_im);
    g.im = g.im + (g.im * m.less_one_re - g.re * m.pole_im);
    g.re = next;
  }
}

/// Floats of `partial` a sequence: gradients of poles, of residues, of d.
template <class Act>
__host__ __device__ std::int64_t partial_stride(const modal_scan_backward_args<Act>& a) {
  return a.channels * (2 * a.modes * parts_of(a) + 1);
}

/// A thread a channel of a sequence, chunks last to first. gradients: [batch, modes, channels], between chunks; partial: [batch, partial_stride].
template <class Act>
__global__ void scan_back(modal_scan_backward_args<Act> a, mode_gradient* gradients, float* partial) {
  __shared__ back_rows rows;
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * back_threads + threadIdx.x, b = blockIdx.y, parts = parts_of(a);
  if (c >= a.channels) return;
  const std::int64_t chunks = (a.length + chunk - 1) / chunk, own = (b * a.channels + c) * a.modes * parts;
  const int me = threadIdx.x;
  const float d = a.d ? a.d[c] : 0;
  float d_d = 0;
  const auto gradient = [&](std::int64_t n) -> mode_gradient& { return gradients[(b * a.modes + n) * a.channels + c]; };
  for (std::int64_t n = 0; n < a.modes; ++n)
    gradient(n) = {a.d_final ? a.d_final[own + n * parts] : 0, a.d_final && parts == 2 ? a.d_final[own + 2 * n + 1] : 0, 0, 0, 0, 0};
  for (std::int64_t k = chunks - 1; k >= 0; --k) {
    const std::int64_t first = b * a.length + k * chunk;
    const int count = static_cast<int>(least(a.length - k * chunk, static_cast<std::int64_t>(chunk)));
    for (int t = 0; t < count; ++t) {
      const float w = input_at(a, first + t, c), dy = wide(a.dy[(first + t) * a.dy_stride + c]);
      const float d_sum = a.x2 ? dy * wide(a.x2[(first + t) * a.x_stride + c]) : dy;
      rows.w[t][me] = w;
      rows.sums[t][me] = d * w;
      rows.d_sums[t][me] = d_sum;
      rows.dw[t][me] = d * d_sum;
      d_d += d_sum * w;
    }
    for (std::int64_t n = 0; n < a.modes; ++n) {
      const std::int64_t i = c * a.modes + n;
      const float* state = a.states + (((b * chunks + k) * a.channels + c) * a.modes + n) * parts;
      mode_gradient g = gradient(n);
      mode_back(rows, count, mode_state::of(a, i, state[0], parts == 2 ? state[1] : 0), a.residues[i * parts],
                parts == 2 ? a.residues[i * parts + 1] : 0, g);
      gradient(n) = g;
    }
    for (int t = 0; t < count; ++t) {
      const std::int64_t from = (first + t) * a.x_stride + c, to = (first + t) * a.dx_stride + c;
      const float dw = rows.dw[t][me];
      if (a.x2) a.dx2[to] = narrow<Act>(wide(a.dy[(first + t) * a.dy_stride + c]) * rows.sums[t][me]);
      if (a.x1) a.dx1[to] = narrow<Act>(dw * wide(a.v[from]));
      a.dv[to] = narrow<Act>(a.x1 ? dw * wide(a.x1[from]) : dw);
    }
  }
  float *d_poles = partial + b * partial_stride(a), *d_residues = d_poles + a.channels * a.modes * parts;
  d_residues[a.channels * a.modes * parts + c] = d_d;
  for (std::int64_t n = 0; n < a.modes; ++n) {
    const std::int64_t i = (c * a.modes + n) * parts;
    const mode_gradient g = gradient(n);
    d_poles[i] = parts == 2 ? g.pole_re : g.pole_re * expf(a.poles[i]);
    d_residues[i] = g.residue_re;
    if (parts == 2) d_poles[i + 1] = g.pole_im, d_residues[i + 1] = g.residue_im;
    if (a.d_initial) a.d_initial[own + n * parts] = g.re;
    if (a.d_initial && parts == 2) a.d_initial[own + 2 * n + 1] = g.im;
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
void modal_scan_backward(stream& s, const modal_scan_backward_args<Act>& a) {
  queue& q = queue_of(s);
  const std::int64_t between = a.batch * a.modes * a.channels * static_cast<std::int64_t>(sizeof(mode_gradient) / sizeof(float));
  const std::int64_t stride = partial_stride(a), numbers = a.channels * a.modes * parts_of(a);
  if (a.batch == 0 || a.channels == 0) return;
  float* partial = q.scratch_floats(a.batch * stride + between);
  launch(q, "modal_scan_backward", scan_back<Act>,
         dim3(static_cast<unsigned>(ceil_div(a.channels, back_threads)), static_cast<unsigned>(a.batch)), back_threads, 0, a,
         reinterpret_cast<mode_gradient*>(partial + a.batch * stride), partial);
  add_partial_sums(q, partial, a.batch, stride, numbers, a.d_poles);
  add_partial_sums(q, partial + numbers, a.batch, stride, numbers, a.d_residues);
  if (a.d) add_partial_sums(q, partial + 2 * numbers, a.batch, stride, a.channels, a.d_d);
}

template <class Act>
void modal_step(stream& s, const modal_step_args<Act>& a) {
  modal_scan<Act>(s, one_row_of(a));
}

#define ISTHMUS_FOR(Act)                                                            \
  template void modal_scan(stream&, const modal_scan_args<Act>&);                   \
  template void modal_scan_backward(stream&, const modal_scan_backward_args<Act>&); \
  template void modal_step(stream&, const modal_step_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
