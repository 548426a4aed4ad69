// Attention in fp32 for wide heads. Four query (or key) rows a warp stay in registers, tiles of 32 rows of the other side pass by in shared
// memory: lanes are rows of the tile for scores, columns of the head for sums.
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda {

namespace {

constexpr int warps = 8, rows_a_warp = 4, tile = 32, threads = warps * warp_size;
constexpr float low = -3.0e38F;  // below every score, and no infinity: the difference of two of them is a number

/// A tile of `tile` rows in shared memory, rows of D + 4 so that lanes that read neighbouring rows meet no bank twice.
template <int D>
struct rows_tile {
  static constexpr int stride = D + 4;
  static constexpr int floats = tile * stride;
  float* at;

  /// Rows [0, valid) of head_dim columns from global memory; zero elsewhere.
  __device__ void load(const float* from, std::int64_t from_stride, std::int64_t valid, std::int64_t head_dim) const {
    for (int i = threadIdx.x; i < tile * D; i += threads) {
      const int r = i / D, c = i % D;
      at[r * stride + c] = r < valid && c < head_dim ? from[r * from_stride + c] : 0.0F;
    }
  }
  /// scores[k] = row (warp's k-th) of `mine` . this tile's row of the lane.
  __device__ void scores(const rows_tile& mine, float (&out)[rows_a_warp]) const {
    const float* theirs = at + (threadIdx.x % warp_size) * stride;
    const float* ours = mine.at + threadIdx.x / warp_size * rows_a_warp * stride;
    for (float& s : out) s = 0;
#pragma unroll 4
    for (int c = 0; c < D; c += 4) {
      const float4 b = *reinterpret_cast<const float4*>(theirs + c);
#pragma unroll
      for (int k = 0; k < rows_a_warp; ++k) {
        const float4 a = *reinterpret_cast<const float4*>(ours + k * stride + c);
        out[k] += a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
      }
    }
  }
  /// sums[k] += sum over the tile's rows j of weights[k] (of lane j) * row j; column i * 32 + lane.
  __device__ void add_weighted(const float (&weights)[rows_a_warp], float (&sums)[rows_a_warp][D / warp_size]) const {
    const int lane = threadIdx.x % warp_size;
#pragma unroll 4
    for (int j = 0; j < tile; ++j) {
      float w[rows_a_warp];
#pragma unroll
      for (int k = 0; k < rows_a_warp; ++k) w[k] = __shfl_sync(~0U, weights[k], j);
#pragma unroll
      for (int i = 0; i < D / warp_size; ++i) {
        const float v = at[j * stride + i * warp_size + lane];
#pragma unroll
        for (int k = 0; k < rows_a_warp; ++k) sums[k][i] += w[k] * v;
      }
    }
  }
};

template <int D>
__device__ void clear(float (&sums)[rows_a_warp][D / warp_size]) {
#pragma unroll
  for (auto& row : sums)
#pragma unroll
    for (float& v : row) v = 0;
}

/// Writes the warp's rows, times scales[k]: row k of the warp to out + k * stride, where it is one of `valid` rows of the block.
template <int D>
__device__ void write_rows(const float (&sums)[rows_a_warp][D / warp_size], const float (&scales)[rows_a_warp], float* out,
                           std::int64_t stride, std::int64_t valid, std::int64_t head_dim) {
  const int first = static_cast<int>(threadIdx.x) / warp_size * rows_a_warp, lane = static_cast<int>(threadIdx.x) % warp_size;
#pragma unroll
  for (int k = 0; k < rows_a_warp; ++k)
#pragma unroll
    for (int i = 0; i < D / warp_size; ++i) {
      const int c = i * warp_size + lane;
      if (first + k < valid && c < head_dim) out[(first + k) * stride + c] = sums[k][i] * scales[k];
    }
}

template <int D, bool Plain>
__global__ void attention_rows(attention_args<float> a) {
  extern __shared__ float memory[];
  const rows_tile<D> q{memory}, k{memory + rows_tile<D>::floats}, v{memory + 2 * rows_tile<D>::floats};
  const std::int64_t h = blockIdx.y, b = blockIdx.z, begin = blockIdx.x * tile, kv = h * a.kv_heads / a.heads;
  const std::int64_t first = b * a.length, valid = least(tile, a.length - begin);
  const int lane = threadIdx.x % warp_size, row = threadIdx.x / warp_size * rows_a_warp;
  q.load(a.q + (first + begin) * a.qkv_stride + h * a.head_dim, a.qkv_stride, valid, a.head_dim);
  float sums[rows_a_warp][D / warp_size], peak[rows_a_warp], total[rows_a_warp] = {};
  clear<D>(sums);
  for (float& p : peak) p = low;
  index_range seen_by[rows_a_warp];
  for (int i = 0; i < rows_a_warp; ++i) seen_by[i] = keys_in_sight<Plain>(a.sight, b, a.length, begin + row + i);
  const std::int64_t end = keys_in_sight<Plain>(a.sight, b, a.length, begin + valid - 1).end;
  for (std::int64_t j = keys_in_sight<Plain>(a.sight, b, a.length, begin).first / tile * tile; j < end; j += tile) {
    __syncthreads();
    const std::int64_t from = (first + j) * a.qkv_stride + kv * a.head_dim, there = least(tile, a.length - j);
    k.load(a.k + from, a.qkv_stride, there, a.head_dim);
    v.load(a.v + from, a.qkv_stride, there, a.head_dim);
    __syncthreads();
    float s[rows_a_warp];
    k.scores(q, s);
#pragma unroll
    for (int i = 0; i < rows_a_warp; ++i) {
      const bool seen = seen_by[i].first <= j + lane && j + lane < seen_by[i].end && lane < there;
      s[i] = seen ? s[i] * a.scale : low;
      const float peak_now = fmaxf(peak[i], warp_max(s[i])), keep = __expf(peak[i] - peak_now);
      s[i] = seen ? __expf(s[i] - peak_now) : 0.0F;
      total[i] = total[i] * keep + warp_sum(s[i]);
      peak[i] = peak_now;
#pragma unroll
      for (float& sum : sums[i]) sum *= keep;
    }
    v.add_weighted(s, sums);
  }
  float scales[rows_a_warp];
  for (int i = 0; i < rows_a_warp; ++i) {
    scales[i] = 1 / total[i];
    if (lane == 0 && row + i < valid) a.lse[(b * a.heads + h) * a.length + begin + row + i] = peak[i] + logf(total[i]);
  }
  write_rows<D>(sums, scales, a.o + ((first + begin) * a.heads + h) * a.head_dim, a.heads * a.head_dim, valid, a.head_dim);
}

template <int D, bool Plain>
__global__ void attention_dq(attention_backward_args<float> a, row_facts all_facts) {
  extern __shared__ float memory[];
  constexpr int floats = rows_tile<D>::floats;
  const rows_tile<D> q{memory}, d_o{memory + floats}, k{memory + 2 * floats}, v{memory + 3 * floats};
  const std::int64_t h = blockIdx.y, b = blockIdx.z, begin = blockIdx.x * tile, kv = h * a.kv_heads / a.heads;
  const std::int64_t first = b * a.length, valid = least(tile, a.length - begin);
  const int lane = threadIdx.x % warp_size, row = threadIdx.x / warp_size * rows_a_warp;
  q.load(a.q + (first + begin) * a.qkv_stride + h * a.head_dim, a.qkv_stride, valid, a.head_dim);
  d_o.load(a.d_o + ((first + begin) * a.heads + h) * a.head_dim, a.heads * a.head_dim, valid, a.head_dim);
  const float scale = a.scale * log2_e;
  const row_facts facts = all_facts.of_head(b * a.heads + h);
  float sums[rows_a_warp][D / warp_size];
  clear<D>(sums);
  index_range seen_by[rows_a_warp];
  for (int i = 0; i < rows_a_warp; ++i) seen_by[i] = keys_in_sight<Plain>(a.sight, b, a.length, begin + row + i);
  const std::int64_t end = keys_in_sight<Plain>(a.sight, b, a.length, begin + valid - 1).end;
  for (std::int64_t j = keys_in_sight<Plain>(a.sight, b, a.length, begin).first / tile * tile; j < end; j += tile) {
    __syncthreads();
    const std::int64_t from = (first + j) * a.qkv_stride + kv * a.head_dim, there = least(tile, a.length - j);
    k.load(a.k + from, a.qkv_stride, there, a.head_dim);
    v.load(a.v + from, a.qkv_stride, there, a.head_dim);
    __syncthreads();
    float s[rows_a_warp], dp[rows_a_warp];
    k.scores(q, s);
    v.scores(d_o, dp);
#pragma unroll
    for (int i = 0; i < rows_a_warp; ++i) {
      const bool seen = seen_by[i].first <= j + lane && j + lane < seen_by[i].end && lane < there;
      s[i] = seen ? a.scale * exp2f(scale * s[i] - facts.lse[begin + row + i]) * (dp[i] - facts.mean[begin + row + i]) : 0.0F;
    }
    k.add_weighted(s, sums);
  }
  const float ones[rows_a_warp] = {1, 1, 1, 1};
  write_rows<D>(sums, ones, a.dq + (first + begin) * a.d_qkv_stride + h * a.head_dim, a.d_qkv_stride, valid, a.head_dim);
}

template <int D, bool Plain>
__global__ void attention_dk_dv(attention_backward_args<float> a, row_facts all_facts) {
  extern __shared__ float memory[];
  constexpr int floats = rows_tile<D>::floats;
  const rows_tile<D> k{memory}, v{memory + floats}, q{memory + 2 * floats}, d_o{memory + 3 * floats};
  const std::int64_t kv = blockIdx.y, b = blockIdx.z, begin = blockIdx.x * tile, group = a.heads / a.kv_heads;
  const std::int64_t first = b * a.length, valid = least(tile, a.length - begin);
  const int lane = threadIdx.x % warp_size, row = threadIdx.x / warp_size * rows_a_warp;
  const std::int64_t from = (first + begin) * a.qkv_stride + kv * a.head_dim;
  k.load(a.k + from, a.qkv_stride, valid, a.head_dim);
  v.load(a.v + from, a.qkv_stride, valid, a.head_dim);
  float dk[rows_a_warp][D / warp_size], dv[rows_a_warp][D / warp_size];
  clear<D>(dk);
  clear<D>(dv);
  const float scale = a.scale * log2_e;
  const index_range queries = queries_in_sight<Plain>(a.sight, b, a.length, begin, begin + valid);
  for (std::int64_t h = kv * group; h < (kv + 1) * group; ++h) {
    for (std::int64_t i = queries.first; i < queries.end; i += tile) {
      __syncthreads();
      const std::int64_t there = least(tile, a.length - i);
      q.load(a.q + (first + i) * a.qkv_stride + h * a.head_dim, a.qkv_stride, there, a.head_dim);
      d_o.load(a.d_o + ((first + i) * a.heads + h) * a.head_dim, a.heads * a.head_dim, there, a.head_dim);
      const row_facts facts = all_facts.of_head(b * a.heads + h);
      const float lse = facts.lse[i + lane], mean = facts.mean[i + lane];
      const index_range sees = keys_in_sight<Plain>(a.sight, b, a.length, i + lane);
      __syncthreads();
      float p[rows_a_warp], ds[rows_a_warp];
      q.scores(k, p);
      d_o.scores(v, ds);
#pragma unroll
      for (int j = 0; j < rows_a_warp; ++j) {
        const std::int64_t key = begin + row + j;
        p[j] = sees.first <= key && key < sees.end ? exp2f(scale * p[j] - lse) : 0.0F;
        ds[j] = a.scale * p[j] * (ds[j] - mean);
      }
      d_o.add_weighted(p, dv);
      q.add_weighted(ds, dk);
    }
  }
  const std::int64_t to = (first + begin) * a.d_qkv_stride + kv * a.head_dim;
  const float ones[rows_a_warp] = {1, 1, 1, 1};
  write_rows<D>(dk, ones, a.dk + to, a.d_qkv_stride, valid, a.head_dim);
  write_rows<D>(dv, ones, a.dv + to, a.d_qkv_stride, valid, a.head_dim);
}

constexpr int rows_at_once = 8;  // of a group of lanes, so that enough is on its way

/// Neighbouring rows of one head, each by `lanes` lanes of a warp, a power of two; four columns at a time if Fours.
template <class Act, bool Fours>
__global__ void facts_of_rows(attention_backward_args<Act> a, row_facts all_facts, int lanes) {
  constexpr int step = Fours ? 4 : 1;
  const int heads = static_cast<int>(a.heads), head_dim = static_cast<int>(a.head_dim), h = blockIdx.x % heads, rows = threads / lanes;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x / heads) * rows * rows_at_once + threadIdx.x / lanes, b = blockIdx.y;
  const int lane = static_cast<int>(threadIdx.x) % lanes, left = static_cast<int>(a.length - first);  // rows from the first on
  const std::int64_t at = ((b * a.length + first) * heads + h) * head_dim, stride = static_cast<std::int64_t>(rows) * heads * head_dim;
  const Act *o = a.o + at, *d_o = a.d_o + at;
  float sum[rows_at_once] = {};
  for (int c = lane * step; c < head_dim && left > 0; c += lanes * step)
#pragma unroll
    for (int k = 0; k < rows_at_once; ++k) {
      const std::int64_t from = c + (k * rows < left ? k * stride : 0);  // no branch, so that all loads go out at once
      if constexpr (Fours) {
        const float4 x = load4(o + from), y = load4(d_o + from);
        sum[k] += (x.x * y.x + x.y * y.y) + (x.z * y.z + x.w * y.w);
      } else {
        sum[k] += wide(o[from]) * wide(d_o[from]);
      }
    }
  const row_facts facts = all_facts.of_head(b * heads + h).from(first);
  const real<Act>* lse = a.lse + (b * heads + h) * a.length + first;
#pragma unroll
  for (int k = 0; k < rows_at_once; ++k) {
    for (int step_of_lanes = lanes / 2; step_of_lanes > 0; step_of_lanes /= 2) sum[k] += __shfl_xor_sync(~0U, sum[k], step_of_lanes);
    if (lane != 0 || k * rows >= facts.length) continue;
    facts.lse[k * rows] = k * rows < left ? lse[k * rows] * log2_e : INFINITY;
    facts.mean[k * rows] = k * rows < left ? sum[k] : 0;
  }
}

dim3 grid_of(std::int64_t length, std::int64_t heads, std::int64_t batch) {
  return {static_cast<unsigned>(ceil_div(length, tile)), static_cast<unsigned>(heads), static_cast<unsigned>(batch)};
}

template <int D>
constexpr std::size_t tiles_bytes(int tiles) {
  return static_cast<std::size_t>(tiles) * rows_tile<D>::floats * sizeof(float);
}

}  // namespace

template <class Act>
row_facts facts_of(queue& q, const attention_backward_args<Act>& a) {
  const std::int64_t length = ceil_div(a.length, 64) * 64, rows = a.batch * a.heads * length;
  float* memory = q.scratch_floats(2 * rows);
  const row_facts facts{memory, memory + rows, length};
  const bool vectors = fours(a.head_dim, a.o, a.d_o);
  int lanes = 1;
  while (lanes < warp_size && lanes * (vectors ? 4 : 1) < a.head_dim) lanes *= 2;
  launch(q, "attention's d_o . o", vectors ? facts_of_rows<Act, true> : facts_of_rows<Act, false>,
         dim3(static_cast<unsigned>(a.heads * ceil_div(length * lanes, threads * rows_at_once)), static_cast<unsigned>(a.batch)), threads,
         0, a, facts, lanes);
  return facts;
}
template row_facts facts_of(queue&, const attention_backward_args<float>&);
template row_facts facts_of(queue&, const attention_backward_args<bf16>&);

void attention_of_wide_heads(queue& q, const attention_args<float>& a) {
  for_any_head_dim(a.head_dim, [&]<int D>() {
    for_sight(a.sight, [&]<bool Plain>() {
      launch(q, "attention", attention_rows<D, Plain>, grid_of(a.length, a.heads, a.batch), threads, tiles_bytes<D>(3), a);
    });
  });
}

void attention_backward_of_wide_heads(queue& q, const attention_backward_args<float>& a) {
  const row_facts facts = facts_of(q, a);
  for_any_head_dim(a.head_dim, [&]<int D>() {
    for_sight(a.sight, [&]<bool Plain>() {
      launch(q, "attention's dq", attention_dq<D, Plain>, grid_of(a.length, a.heads, a.batch), threads, tiles_bytes<D>(4), a, facts);
      launch(q, "attention's dk and dv", attention_dk_dv<D, Plain>, grid_of(a.length, a.kv_heads, a.batch), threads, tiles_bytes<D>(4), a,
             facts);
    });
  });
}

}  // namespace isthmus::kernels::cuda
