#include "kernels/cuda/ssd.cuh"

#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda {

namespace {

/// A warp a tile and head: two rows a lane, running sums by shuffles.
template <class Act>
__global__ void time_steps(ssd_extents e, ssd_tiles t, const Act* dt, std::int64_t dt_stride, const float* dt_bias, const float* a_log,
                           float dt_min, float dt_max, ssd_times times) {
  const ssd_place at(t);
  const int lane = threadIdx.x;
  const float rate = -expf(a_log[at.h]);
  float before = 0;
  for (int half = 0; half < side; half += warp_size) {
    const int r = half + lane;
    const std::int64_t row = at.first + r;
    float delta = 0, slope = 0;
    if (r < at.rows) {
      const float pre = wide(dt[row * dt_stride + at.h]) + dt_bias[at.h];
      delta = softplus(pre);
      slope = sigmoid(pre);
      if (delta < dt_min || delta > dt_max) {
        delta = delta < dt_min ? dt_min : dt_max;
        slope = 0;
      }
    }
    float total = delta * rate;
    for (int step = 1; step < warp_size; step *= 2) {
      const float other = __shfl_up_sync(~0U, total, step);
      if (lane >= step) total += other;
    }
    total += before;
    before = __shfl_sync(~0U, total, warp_size - 1);
    if (r >= at.rows) continue;
    const std::int64_t i = (at.b * e.heads + at.h) * t.length + row - at.b * t.length;
    times.delta[i] = delta;
    times.total[i] = total;
    if (times.slope) times.slope[i] = slope;
  }
  if (lane == 0) times.decay[(at.b * e.heads + at.h) * t.count + at.tile] = expf(before);  // rows that are not there decay nothing
}

template <class Act>
__global__ void __launch_bounds__(square_threads)
    outer_products(ssd_extents e, ssd_tiles t, ssd_times times, ssd_outer<Act> o, float* added, bool vectors) {
  extern __shared__ std::byte memory[];
  __shared__ float weight[side];
  const square<Act> left(memory), right(memory + square<Act>::bytes);
  const ssd_place at(t);
  const std::int64_t g = at.h * e.groups / e.heads, i = (at.b * e.heads + at.h) * t.length + at.first - at.b * t.length;
  if (threadIdx.x < side) {
    float w = 0;
    if (threadIdx.x < at.rows)
      w = o.to_the_end ? expf(times.total[i + at.rows - 1] - times.total[i + threadIdx.x]) * times.delta[i + threadIdx.x]
                       : expf(times.total[i + threadIdx.x]);
    weight[threadIdx.x] = w;
  }
  float* out = added + ((at.b * t.count + at.tile) * e.heads + at.h) * e.head_dim * e.state;
  for (std::int64_t n = 0; n < e.state; n += side) {
    for (std::int64_t p = 0; p < e.head_dim; p += side) {
      __syncthreads();
      fill(left, o.left + at.first * o.left_stride + at.h * e.head_dim + p, o.left_stride, at.rows, e.head_dim - p, vectors);
      if (p == 0) fill(right, o.right + at.first * o.right_stride + g * e.state + n, o.right_stride, at.rows, e.state - n, vectors, weight);
      __syncthreads();
      sums<Act> u;
      u.clear();
      u.add_tn(left, right);
      u.write(out + p * e.state + n, e.state, e.head_dim - p, e.state - n, [](int, int, float v) { return v; });
    }
  }
}

/// The state before each tile takes the place of what the tile adds. A thread an element of the state; the next tiles are read before
/// this one is written, for the way through memory is long.
__global__ void scan_tiles(ssd_extents e, ssd_tiles t, const float* decay, float* tiles, float* states, const float* initial,
                           float* final) {
  constexpr int ahead = 8;
  const std::int64_t size = e.head_dim * e.state, element = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t h = blockIdx.y, b = blockIdx.z, step = e.heads * size;
  if (element >= size) return;
  const int count = static_cast<int>(t.count), in_chunk = static_cast<int>(t.in_chunk);
  decay += (b * e.heads + h) * count;
  float* place = tiles + (b * count * e.heads + h) * size + element;
  float* kept = states ? states + (b * (count / in_chunk) * e.heads + h) * size + element : nullptr;
  float s = initial ? initial[(b * e.heads + h) * size + element] : 0.0F;
  int until_kept = 0;
  for (int i = 0; i < count; i += ahead) {
    float added[ahead], by[ahead];
#pragma unroll
    for (int k = 0; k < ahead; ++k)
      if (i + k < count) {
        added[k] = place[k * step];
        by[k] = decay[i + k];
      }
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      if (i + k >= count) break;
      *place = s;
      place += step;
      if (kept && until_kept == 0) {
        *kept = s;
        kept += step;
        until_kept = in_chunk;
      }
      --until_kept;
      s = by[k] * s + added[k];
    }
  }
  if (final) final[(b * e.heads + h) * size + element] = s;
}

template <class Act>
__global__ void __launch_bounds__(square_threads)
    outputs_of_tiles(ssd_args<Act> a, ssd_extents e, ssd_tiles t, ssd_times times, const float* before, bool vectors) {
  extern __shared__ std::byte memory[];
  __shared__ float total[side], delta[side], decay[side];
  const square<Act> c(memory), other(memory + square<Act>::bytes), mixed(memory + 2 * square<Act>::bytes);
  const ssd_place at(t);
  if (at.rows == 0) return;
  const std::int64_t g = at.h * e.groups / e.heads, i = (at.b * e.heads + at.h) * t.length + at.first - at.b * t.length;
  if (threadIdx.x < side) {
    const bool there = threadIdx.x < at.rows;
    total[threadIdx.x] = there ? times.total[i + threadIdx.x] : 0.0F;
    delta[threadIdx.x] = there ? times.delta[i + threadIdx.x] : 0.0F;
    decay[threadIdx.x] = there ? expf(total[threadIdx.x]) : 0.0F;
  }
  const auto rows_of = [&](const Act* from, std::int64_t column) { return from + at.first * a.xbc_stride + column; };
  sums<Act> m;
  m.clear();
  for (std::int64_t n = 0; n < e.state; n += side) {
    __syncthreads();
    fill(c, rows_of(a.c, g * e.state + n), a.xbc_stride, at.rows, e.state - n, vectors);
    fill(other, rows_of(a.b, g * e.state + n), a.xbc_stride, at.rows, e.state - n, vectors);
    __syncthreads();
    m.add_nt(c, other);
  }
  // Row t sees row s <= t through exp(total_t - total_s) delta_s.
  m.each([&](int r, int s, float& v) { mixed.set(r, s, s <= r ? v * __expf(total[r] - total[s]) * delta[s] : 0.0F); });
  const float* state = before + ((at.b * t.count + at.tile) * e.heads + at.h) * e.head_dim * e.state;
  const float d = a.d[at.h];
  for (std::int64_t p = 0; p < e.head_dim; p += side) {
    sums<Act> y;
    y.clear();
    for (std::int64_t n = 0; n < e.state; n += side) {
      __syncthreads();
      if (e.state > side) fill(c, rows_of(a.c, g * e.state + n), a.xbc_stride, at.rows, e.state - n, vectors);
      fill(other, state + p * e.state + n, e.state, e.head_dim - p, e.state - n, vectors);
      __syncthreads();
      y.add_nt(c, other);
    }
    y.each([&](int r, int, float& v) { v *= decay[r]; });
    __syncthreads();
    fill(other, rows_of(a.x, at.h * e.head_dim + p), a.xbc_stride, at.rows, e.head_dim - p, vectors);
    __syncthreads();
    y.add_nn(mixed, other);
    const std::int64_t inner = e.heads * e.head_dim;
    y.write(a.y + at.first * inner + at.h * e.head_dim + p, inner, at.rows, e.head_dim - p,
            [&](int r, int col, float v) { return v + d * other.get(r, col); });
  }
}

/// One token: a warp a row of the state.
template <class Act>
__global__ void one_token(ssd_step_args<Act> a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x / warp_size + threadIdx.x / warp_size;
  if (i >= a.heads * a.head_dim) return;
  const std::int64_t h = i / a.head_dim, g = h * a.groups / a.heads;
  const float delta = fminf(fmaxf(softplus(wide(a.dt[h]) + a.dt_bias[h]), a.dt_min), a.dt_max), decay = expf(-delta * expf(a.a_log[h]));
  const float x = wide(a.x[i]);
  float y = 0;
  for (std::int64_t n = threadIdx.x % warp_size; n < a.state; n += warp_size) {
    float* s = a.s + i * a.state + n;
    *s = decay * *s + delta * x * wide(a.b[g * a.state + n]);
    y += *s * wide(a.c[g * a.state + n]);
  }
  y = warp_sum(y);
  if (threadIdx.x % warp_size == 0) a.y[i] = narrow<Act>(y + a.d[h] * x);
}

dim3 grid_of(const ssd_extents& e, std::int64_t first) {
  return {static_cast<unsigned>(first), static_cast<unsigned>(e.heads), static_cast<unsigned>(e.batch)};
}

}  // namespace

template <class Act>
void ssd_time_steps(queue& q, const ssd_extents& e, const ssd_tiles& t, const Act* dt, std::int64_t dt_stride, const float* dt_bias,
                    const float* a_log, float dt_min, float dt_max, const ssd_times& times) {
  launch(q, "ssd's time steps", time_steps<Act>, grid_of(e, t.count), warp_size, 0, e, t, dt, dt_stride, dt_bias, a_log, dt_min, dt_max,
         times);
}

template <class Act>
void ssd_added(queue& q, const ssd_extents& e, const ssd_tiles& t, const ssd_times& times, const ssd_outer<Act>& outer, float* added,
               bool vectors) {
  launch(q, "ssd's outer products", outer_products<Act>, grid_of(e, t.count), square_threads, 2 * square<Act>::bytes, e, t, times, outer,
         added, vectors);
}

template <class Act>
void ssd(stream& s, const ssd_args<Act>& a) {
  queue& q = queue_of(s);
  const ssd_extents e{a.batch, a.heads, a.head_dim, a.groups, a.state};
  const ssd_tiles t = ssd_tiles::of(a.length, a.chunk);
  const std::int64_t per_row = ceil_div(a.batch * a.heads * a.length, 4) * 4, per_tile = ceil_div(a.batch * a.heads * t.count, 4) * 4;
  const bool in_place = a.states && t.in_chunk == 1;  // the states that are asked for are those before each tile
  float* memory = q.scratch_floats(2 * per_row + per_tile + (in_place ? 0 : a.batch * t.count * a.heads * e.state_size()));
  const ssd_times times{memory, nullptr, memory + per_row, memory + 2 * per_row};
  float* tiles = in_place ? a.states : memory + 2 * per_row + per_tile;
  const bool vectors = fours(a.xbc_stride | a.head_dim | a.state, a.x, a.b, a.c, tiles);
  ssd_time_steps(q, e, t, a.dt, a.dt_stride, a.dt_bias, a.a_log, a.dt_min, a.dt_max, times);
  ssd_added(q, e, t, times, ssd_outer<Act>{a.x, a.b, a.xbc_stride, a.xbc_stride, true}, tiles, vectors);
  launch(q, "ssd's scan", scan_tiles, grid_of(e, ceil_div(e.state_size(), 128)), 128, 0, e, t, times.decay, tiles,
         in_place ? nullptr : a.states, a.initial, a.final);
  launch(q, "ssd", outputs_of_tiles<Act>, grid_of(e, t.count), square_threads, 3 * square<Act>::bytes, a, e, t, times, tiles, vectors);
}

template <class Act>
void ssd_step(stream& s, const ssd_step_args<Act>& a) {
  launch(queue_of(s), "ssd_step", one_token<Act>, static_cast<unsigned>(ceil_div(a.heads * a.head_dim, 4)), 128, 0, a);
}

#define ISTHMUS_FOR(Act)                                                                                                                  \
  template void ssd_time_steps(queue&, const ssd_extents&, const ssd_tiles&, const Act*, std::int64_t, const float*, const float*, float, \
                               float, const ssd_times&);                                                                                  \
  template void ssd_added(queue&, const ssd_extents&, const ssd_tiles&, const ssd_times&, const ssd_outer<Act>&, float*, bool);           \
  template void ssd(stream&, const ssd_args<Act>&);                                                                                       \
  template void ssd_step(stream&, const ssd_step_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
