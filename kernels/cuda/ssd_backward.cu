// The backward pass of ssd.cu, tile by tile. With total_t the sum of the log decays of the tile up to row t, S the state before the tile
// and G the gradient of the state after it (from later tiles):
//   along_s = sum_{u >= s} exp(total_u - total_s) (c_u . b_s) dy_u + exp(total_end - total_s) G b_s,  dx_s = delta_s along_s + d dy_s
//   db_s = delta_s (sum_{u >= s} exp(total_u - total_s) (dy_u . x_s) c_u + exp(total_end - total_s) G^T x_s)
//   dc_u = sum_{s <= u} exp(total_u - total_s) (x_s . dy_u) delta_s b_s + exp(total_u) S^T dy_u
// and with E_us = exp(total_u - total_s) (c_u . b_s) delta_s (x_s . dy_u), of which what row u and row s of one tile give each other,
//   d (log decay)_t = sum_{u >= t > s} E_us + sum_{u >= t} exp(total_u) c_u . S^T dy_u
//                     + sum_{s < t} exp(total_end - total_s) delta_s b_s . G^T x_s + exp(total_end) S . G.
// The first sum is that of (row sums - column sums) of E from t on: the same numbers cancel, not two roundings. d delta_s has the column
// sum of E / delta_s, and exp(total_end - total_s) b_s . G^T x_s.
#include "kernels/cuda/ops.hpp"
#include "kernels/cuda/ssd.cuh"

namespace isthmus::kernels::cuda {

namespace {

/// The state before each tile of a chunk, from the one that was kept before the chunk; takes the place of what the tile adds.
__global__ void states_in_chunks(ssd_extents e, ssd_tiles t, const float* decay, const float* states, float* tiles) {
  const std::int64_t size = e.head_dim * e.state, element = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t h = blockIdx.y, b = blockIdx.z, step = e.heads * size;
  if (element >= size) return;
  const int count = static_cast<int>(t.count), in_chunk = static_cast<int>(t.in_chunk);
  decay += (b * e.heads + h) * count;
  float* place = tiles + (b * count * e.heads + h) * size + element;
  const float* kept = states + (b * (count / in_chunk) * e.heads + h) * size + element;
  for (int chunk = 0; chunk < count; chunk += in_chunk, kept += step) {
    float s = *kept;
    for (int i = chunk; i < chunk + in_chunk; ++i, place += step) {
      const float added = *place;
      *place = s;
      s = decay[i] * s + added;
    }
  }
}

/// The gradient that reaches the state after each tile from later ones and from the final state takes the place of what the tile adds to
/// it. As scan_tiles, from the last tile to the first. d_final, d_initial: may be null, or the same, of which each thread has one element.
__global__ void scan_tiles_back(ssd_extents e, ssd_tiles t, const float* decay, float* tiles, const float* d_final, float* d_initial) {
  constexpr int ahead = 8;
  const std::int64_t size = e.head_dim * e.state, element = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t h = blockIdx.y, b = blockIdx.z, step = e.heads * size;
  if (element >= size) return;
  const int count = static_cast<int>(t.count);
  decay += (b * e.heads + h) * count;
  float* place = tiles + ((b * count + count - 1) * e.heads + h) * size + element;
  const std::int64_t carried = (b * e.heads + h) * size + element;
  float g = d_final ? d_final[carried] : 0.0F;
  for (int i = count - 1; i >= 0; i -= ahead) {
    float added[ahead], by[ahead];
#pragma unroll
    for (int k = 0; k < ahead; ++k)
      if (i - k >= 0) {
        added[k] = place[-k * step];
        by[k] = decay[i - k];
      }
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      if (i - k < 0) break;
      *place = g;
      place -= step;
      g = by[k] * g + added[k];
    }
  }
  if (d_initial) d_initial[carried] = g;
}

/// What the tiles leave for the sums over heads and over tiles.
struct ssd_partial {
  float *db, *dc;  // [batch * length, heads, state]
  float* vectors;  // [batch, tiles, 3, heads]: of d_dt_bias, d_a_log, d_d
};

/// Of each row of a tile, in shared memory.
struct ssd_rows {
  float total[side], delta[side], slope[side], decay[side], to_end[side];
  float skip[side], later[side], of_state[side];  // dy . x, row sums of E, exp(total) c . S^T dy
  float of_adjoint[side], earlier[4][side];       // exp(total_end - total) b . G^T x, column sums of E / delta by warp
};

__device__ void load_rows(ssd_rows& rows, const ssd_times& times, std::int64_t i, std::int64_t count) {
  if (threadIdx.x >= side) return;
  const int r = threadIdx.x;
  const bool there = r < count;
  const float end = times.total[i + count - 1];
  rows.total[r] = there ? times.total[i + r] : 0.0F;
  rows.delta[r] = there ? times.delta[i + r] : 0.0F;
  rows.slope[r] = there ? times.slope[i + r] : 0.0F;
  rows.decay[r] = there ? expf(rows.total[r]) : 0.0F;
  rows.to_end[r] = there ? expf(end - rows.total[r]) : 0.0F;
  rows.skip[r] = rows.later[r] = rows.of_state[r] = rows.of_adjoint[r] = 0;
}

/// The sum of a value of each thread, in every thread; a tree of fixed order.
__device__ float block_sum(float v) {
  __shared__ float part[square_threads / warp_size];
  v = warp_sum(v);
  if (threadIdx.x % warp_size == 0) part[threadIdx.x / warp_size] = v;
  __syncthreads();
  v = (part[0] + part[1]) + (part[2] + part[3]);
  __syncthreads();
  return v;
}

template <class Act>
__global__ void __launch_bounds__(square_threads, 4)
    gradients_of_tiles(ssd_backward_args<Act> a, ssd_extents e, ssd_tiles t, ssd_times times, const float* before, const float* after,
                       ssd_partial partial, bool vectors) {
  extern __shared__ std::byte memory[];
  __shared__ ssd_rows rows;
  const square<Act> one(memory), two(memory + square<Act>::bytes), mixed(memory + 2 * square<Act>::bytes);
  const ssd_place at(t);
  if (at.rows == 0) return;
  const std::int64_t g = at.h * e.groups / e.heads, inner = e.heads * e.head_dim, size = e.head_dim * e.state;
  load_rows(rows, times, (at.b * e.heads + at.h) * t.length + at.first - at.b * t.length, at.rows);
  const float* state = before + ((at.b * t.count + at.tile) * e.heads + at.h) * size;
  const float* adjoint = after + ((at.b * t.count + at.tile) * e.heads + at.h) * size;
  const auto xbc = [&](const Act* from, std::int64_t column) { return from + at.first * a.xbc_stride + column; };
  const auto x_at = [&](std::int64_t p) { return xbc(a.x, at.h * e.head_dim + p); };
  const auto b_at = [&](std::int64_t n) { return xbc(a.b, g * e.state + n); };
  const auto c_at = [&](std::int64_t n) { return xbc(a.c, g * e.state + n); };
  const auto dy_at = [&](std::int64_t p) { return a.dy + at.first * inner + at.h * e.head_dim + p; };
  const auto fill_rows = [&](const square<Act>& to, const Act* from, std::int64_t stride, std::int64_t columns,
                             const float* scale = nullptr) { fill(to, from, stride, at.rows, columns, vectors, scale); };
  const auto mix = [&](sums<Act>& m) {  // row u by exp(total_u - total_s) of row s <= u
    m.each([&](int u, int s, float& v) { mixed.set(u, s, s <= u ? v * __expf(rows.total[u] - rows.total[s]) : 0.0F); });
  };
  sums<Act> m, cb;

  cb.clear();
  for (std::int64_t n = 0; n < e.state; n += side) {
    __syncthreads();
    fill_rows(one, c_at(n), a.xbc_stride, e.state - n);
    fill_rows(two, b_at(n), a.xbc_stride, e.state - n);
    __syncthreads();
    cb.add_nt(one, two);
  }
  mix(cb);
  const float d = a.d[at.h];
  for (std::int64_t p = 0; p < e.head_dim; p += side) {
    sums<Act> along;
    along.clear();
    for (std::int64_t n = 0; n < e.state; n += side) {
      __syncthreads();
      fill_rows(one, b_at(n), a.xbc_stride, e.state - n);
      fill(two, adjoint + p * e.state + n, e.state, e.head_dim - p, e.state - n, vectors);
      __syncthreads();
      along.add_nt(one, two);
    }
    along.each([&](int s, int, float& v) { v *= rows.to_end[s]; });
    __syncthreads();
    fill_rows(one, dy_at(p), inner, e.head_dim - p);
    fill_rows(two, x_at(p), a.xbc_stride, e.head_dim - p);
    __syncthreads();
    along.add_tn(mixed, one);
    along.row_sums(rows.skip, [&](int s, int c, float) { return one.get(s, c) * two.get(s, c); });
    along.write(a.dx + at.first * a.d_xbc_stride + at.h * e.head_dim + p, a.d_xbc_stride, at.rows, e.head_dim - p,
                [&](int s, int c, float v) { return rows.delta[s] * v + d * one.get(s, c); });
  }

  m.clear();
  for (std::int64_t p = 0; p < e.head_dim; p += side) {
    __syncthreads();
    fill_rows(one, dy_at(p), inner, e.head_dim - p);
    fill_rows(two, x_at(p), a.xbc_stride, e.head_dim - p);
    __syncthreads();
    m.add_nt(one, two);
  }
  __syncthreads();
  mix(m);
  m.with(cb, [&](int u, int s, float& v, float other) { v = s <= u ? v * other * __expf(rows.total[u] - rows.total[s]) : 0.0F; });
  m.row_sums(rows.later, [&](int, int s, float v) { return v * rows.delta[s]; });
  m.column_sums(rows.earlier);
  for (std::int64_t n = 0; n < e.state; n += side) {
    const auto keep = [&](sums<Act>& gradient, float* out) {
      gradient.write(out + (at.first * e.heads + at.h) * e.state + n, e.heads * e.state, at.rows, e.state - n,
                     [](int, int, float v) { return v; });
    };
    sums<Act> db, dc;
    db.clear();
    dc.clear();
    for (std::int64_t p = 0; p < e.head_dim; p += side) {
      __syncthreads();
      fill_rows(one, x_at(p), a.xbc_stride, e.head_dim - p);
      fill(two, adjoint + p * e.state + n, e.state, e.head_dim - p, e.state - n, vectors);
      __syncthreads();
      db.add_nn(one, two);
      __syncthreads();
      fill_rows(one, dy_at(p), inner, e.head_dim - p);
      fill(two, state + p * e.state + n, e.state, e.head_dim - p, e.state - n, vectors);
      __syncthreads();
      dc.add_nn(one, two);
    }
    db.each([&](int s, int, float& v) { v *= rows.to_end[s]; });
    dc.each([&](int u, int, float& v) { v *= rows.decay[u]; });
    __syncthreads();
    fill_rows(one, c_at(n), a.xbc_stride, e.state - n);
    fill_rows(two, b_at(n), a.xbc_stride, e.state - n);
    __syncthreads();
    db.row_sums(rows.of_adjoint, [&](int r, int c, float v) { return v * two.get(r, c); });
    dc.row_sums(rows.of_state, [&](int r, int c, float v) { return v * one.get(r, c); });
    db.add_tn(mixed, one);
    __syncthreads();
    for (int i = threadIdx.x; i < side * side; i += square_threads)
      two.set(i / side, i % side, two.get(i / side, i % side) * rows.delta[i / side]);
    __syncthreads();
    dc.add_nn(mixed, two);
    db.each([&](int s, int, float& v) { v *= rows.delta[s]; });
    keep(dc, partial.dc);
    keep(db, partial.db);
  }

  float through = 0;  // S . G
  for (std::int64_t i = threadIdx.x; i < size; i += square_threads) through += adjoint[i] * state[i];
  through = block_sum(through) * expf(rows.total[at.rows - 1]);
  const float rate = -expf(a.a_log[at.h]);
  float d_bias = 0, d_a_log = 0, d_d = 0;
  if (threadIdx.x < at.rows) {
    const int r = threadIdx.x;
    float d_log_decay = through;
    const auto earlier = [&](int s) { return (rows.earlier[0][s] + rows.earlier[1][s]) + (rows.earlier[2][s] + rows.earlier[3][s]); };
    for (int s = 0; s < r; ++s) d_log_decay += rows.delta[s] * rows.of_adjoint[s];
    for (int u = static_cast<int>(at.rows) - 1; u >= r; --u) d_log_decay += rows.of_state[u] + (rows.later[u] - rows.delta[u] * earlier(u));
    d_bias = (earlier(r) + rows.of_adjoint[r] + rate * d_log_decay) * rows.slope[r];
    d_a_log = rows.delta[r] * d_log_decay * rate;
    d_d = rows.skip[r];
    a.d_dt[(at.first + r) * a.d_dt_stride + at.h] = narrow<Act>(d_bias);
  }
  d_bias = block_sum(d_bias);
  d_a_log = block_sum(d_a_log);
  d_d = block_sum(d_d);
  if (threadIdx.x != 0) return;
  float* sums_of_tile = partial.vectors + (at.b * t.count + at.tile) * 3 * e.heads + at.h;
  sums_of_tile[0] = d_bias;
  sums_of_tile[e.heads] = d_a_log;
  sums_of_tile[2 * e.heads] = d_d;
}

/// Sums over the heads of a group, ascending.
template <class Act>
__global__ void add_heads(ssd_extents e, const float* of_heads, Act* out, std::int64_t out_stride) {
  const std::int64_t row = blockIdx.x, per_group = e.heads / e.groups;
  for (std::int64_t i = threadIdx.x; i < e.groups * e.state; i += blockDim.x) {
    const std::int64_t g = i / e.state, n = i % e.state;
    float sum = 0;
    for (std::int64_t h = g * per_group; h < (g + 1) * per_group; ++h) sum += of_heads[(row * e.heads + h) * e.state + n];
    out[row * out_stride + i] = narrow<Act>(sum);
  }
}

/// Sums over all tiles, ascending: a thread a head of one of the three vectors.
__global__ void add_tiles(ssd_extents e, std::int64_t tiles, const float* partial, float* d_dt_bias, float* d_a_log, float* d_d) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= 3 * e.heads) return;
  float sum = 0;
  for (std::int64_t tile = 0; tile < tiles; ++tile) sum += partial[tile * 3 * e.heads + i];
  float* const out[] = {d_dt_bias, d_a_log, d_d};
  out[i / e.heads][i % e.heads] += sum;
}

/// Cuts the queue's scratch into pieces.
class carver {
public:
  float* take(std::int64_t count) {
    float* at = memory ? memory + used : nullptr;
    used += ceil_div(count, 4) * 4;
    return at;
  }
  float* memory = nullptr;
  std::int64_t used = 0;
};

struct ssd_memory {
  ssd_times times;
  float *before, *after;
  ssd_partial partial;
};

ssd_memory carve(carver& c, const ssd_extents& e, const ssd_tiles& t) {
  const std::int64_t per_row = e.batch * e.heads * t.length, states = e.batch * t.count * e.heads * e.state_size();
  return {.times = {c.take(per_row), c.take(per_row), c.take(per_row), c.take(e.batch * e.heads * t.count)},
          .before = t.in_chunk > 1 ? c.take(states) : nullptr,
          .after = c.take(states),
          .partial = {c.take(per_row * e.state), c.take(per_row * e.state), c.take(e.batch * t.count * 3 * e.heads)}};
}

}  // namespace

template <class Act>
void ssd_backward(stream& s, const ssd_backward_args<Act>& a) {
  queue& q = queue_of(s);
  const ssd_extents e{a.batch, a.heads, a.head_dim, a.groups, a.state};
  const ssd_tiles t = ssd_tiles::of(a.length, a.chunk);
  if (a.batch * a.length == 0) return;
  carver counting;
  carve(counting, e, t);
  carver memory;
  memory.memory = q.scratch_floats(counting.used);
  ssd_memory m = carve(memory, e, t);
  const bool vectors = fours(a.xbc_stride | a.head_dim | a.state, a.x, a.b, a.c, a.dy);
  const dim3 elements(static_cast<unsigned>(ceil_div(e.state_size(), 128)), static_cast<unsigned>(e.heads), static_cast<unsigned>(e.batch));
  const dim3 tiles(static_cast<unsigned>(t.count), static_cast<unsigned>(e.heads), static_cast<unsigned>(e.batch));

  ssd_time_steps(q, e, t, a.dt, a.dt_stride, a.dt_bias, a.a_log, a.dt_min, a.dt_max, m.times);
  const float* before = a.states;
  if (m.before) {
    ssd_added(q, e, t, m.times, ssd_outer<Act>{a.x, a.b, a.xbc_stride, a.xbc_stride, true}, m.before, vectors);
    launch(q, "ssd's states in chunks", states_in_chunks, elements, 128, 0, e, t, m.times.decay, a.states, m.before);
    before = m.before;
  }
  ssd_added(q, e, t, m.times, ssd_outer<Act>{a.dy, a.c, e.heads * e.head_dim, a.xbc_stride, false}, m.after, vectors);
  launch(q, "ssd's scan back", scan_tiles_back, elements, 128, 0, e, t, m.times.decay, m.after, a.d_final, a.d_initial);
  device_memory.clear(s, m.partial.vectors, static_cast<std::size_t>(e.batch * t.count * 3 * e.heads) * sizeof(float));  // of empty tiles
  launch(q, "ssd_backward", gradients_of_tiles<Act>, tiles, square_threads, 3 * square<Act>::bytes, a, e, t, m.times, before, m.after,
         m.partial, vectors);
  const auto rows = static_cast<unsigned>(a.batch * a.length);
  launch(q, "ssd's db", add_heads<Act>, rows, 128, 0, e, m.partial.db, a.db, a.d_xbc_stride);
  launch(q, "ssd's dc", add_heads<Act>, rows, 128, 0, e, m.partial.dc, a.dc, a.d_xbc_stride);
  launch(q, "ssd's sums over tiles", add_tiles, static_cast<unsigned>(ceil_div(3 * e.heads, 128)), 128, 0, e, e.batch * t.count,
         m.partial.vectors, a.d_dt_bias, a.d_a_log, a.d_d);
}

template void ssd_backward(stream&, const ssd_backward_args<float>&);
template void ssd_backward(stream&, const ssd_backward_args<bf16>&);

}  // namespace isthmus::kernels::cuda
