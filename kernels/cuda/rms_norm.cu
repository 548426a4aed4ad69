#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::cuda {

namespace {

constexpr int rows_a_block = 4;  // one warp a row

dim3 row_grid(std::int64_t rows) { return static_cast<unsigned>(ceil_div(rows, rows_a_block)); }
constexpr int row_threads = rows_a_block * warp_size;

/// The row of this warp, and the lane's first column.
__device__ std::int64_t row_of_warp() { return static_cast<std::int64_t>(blockIdx.x) * rows_a_block + threadIdx.x / warp_size; }
__device__ int lane() { return static_cast<int>(threadIdx.x % warp_size); }

template <class Act, bool Fours>
__global__ void rms_norm_rows(rms_norm_args<Act> a) {
  constexpr int step = Fours ? 4 : 1;
  const std::int64_t r = row_of_warp();
  if (r >= a.rows) return;
  const float* x = a.residual + r * a.cols;
  float* sum = a.x + r * a.cols;
  float squares = 0;
  for (std::int64_t c = lane() * step; c < a.cols; c += warp_size * step) {
    if constexpr (Fours) {
      float4 v = load4(x + c);
      if (a.branch) {
        const float4 b = load4(a.branch + r * a.cols + c);
        v = {v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w};
        store4(sum + c, v);
      }
      squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    } else {
      float v = x[c];
      if (a.branch) sum[c] = v += wide(a.branch[r * a.cols + c]);
      squares += v * v;
    }
  }
  const float rstd = 1 / sqrtf(warp_sum(squares) / static_cast<float>(a.cols) + a.eps);
  if (a.branch) x = sum;
  for (std::int64_t c = lane() * step; c < a.cols; c += warp_size * step) {  // each lane reads what it wrote itself
    if constexpr (Fours) {
      const float4 v = load4(x + c), g = load4(a.gain + c);
      store4(a.y + r * a.cols + c, {v.x * g.x * rstd, v.y * g.y * rstd, v.z * g.z * rstd, v.w * g.w * rstd});
    } else {
      a.y[r * a.cols + c] = narrow<Act>(x[c] * a.gain[c] * rstd);
    }
  }
  if (lane() == 0) a.rstd[r] = rstd;
}

template <class Act, bool Fours>
__global__ void rms_norm_backward_rows(rms_norm_backward_args<Act> a) {
  constexpr int step = Fours ? 4 : 1;
  const std::int64_t r = row_of_warp();
  if (r >= a.rows) return;
  const Act* dy = a.dy + r * a.cols;
  const float* x = a.x + r * a.cols;
  float along = 0;
  for (std::int64_t c = lane() * step; c < a.cols; c += warp_size * step) {
    if constexpr (Fours) {
      const float4 v = load4(x + c), g = load4(a.gain + c), d = load4(dy + c);
      along += g.x * d.x * v.x + g.y * d.y * v.y + g.z * d.z * v.z + g.w * d.w * v.w;
    } else {
      along += a.gain[c] * wide(dy[c]) * x[c];
    }
  }
  const float rstd = a.rstd[r], pull = warp_sum(along) * rstd * rstd * rstd / static_cast<float>(a.cols);
  for (std::int64_t c = lane() * step; c < a.cols; c += warp_size * step) {
    const std::int64_t at = r * a.cols + c;
    if constexpr (Fours) {
      const float4 v = load4(x + c), g = load4(a.gain + c), d = load4(dy + c);
      const float4 past = a.d_residual ? load4(a.d_residual + at) : float4{0, 0, 0, 0};
      const float4 dx = {past.x + (rstd * g.x * d.x - v.x * pull), past.y + (rstd * g.y * d.y - v.y * pull),
                         past.z + (rstd * g.z * d.z - v.z * pull), past.w + (rstd * g.w * d.w - v.w * pull)};
      store4(a.dx + at, dx);
      if (a.d_branch) store4(a.d_branch + at, dx);
    } else {
      const float dx = (a.d_residual ? a.d_residual[at] : 0.0F) + (rstd * a.gain[c] * wide(dy[c]) - x[c] * pull);
      a.dx[at] = dx;
      if (a.d_branch) a.d_branch[at] = narrow<Act>(dx);
    }
  }
}

template <class Act>
struct gain_term {
  const Act* dy;
  const float *x, *rstd;
  std::int64_t cols;
  __device__ float operator()(std::int64_t r, std::int64_t c) const { return wide(dy[r * cols + c]) * x[r * cols + c] * rstd[r]; }
  __device__ float4 four(std::int64_t r, std::int64_t c) const {
    const float4 d = load4(dy + r * cols + c), v = load4(x + r * cols + c);
    const float by = rstd[r];
    return {d.x * v.x * by, d.y * v.y * by, d.z * v.z * by, d.w * v.w * by};
  }
};

__device__ float gated(float y, float z) { return y * (z * sigmoid(z)); }

/// The sum over a block of up to 32 warps, in every thread; a tree of fixed order.
__device__ float block_sum(float v) {
  __shared__ float of_warps[warp_size];
  v = warp_sum(v);
  if (lane() == 0) of_warps[threadIdx.x / warp_size] = v;
  __syncthreads();
  return warp_sum(lane() < static_cast<int>(blockDim.x) / warp_size ? of_warps[lane()] : 0.0F);
}

/// One block a row and group, columns as many a thread as wait in registers for the row's sum; further ones are found twice.
template <class Act, bool Fours>
__global__ void gated_norm_rows(gated_norm_args<Act> a) {
  constexpr int held_a_thread = 2, step = Fours ? 4 : 1;
  const std::int64_t r = blockIdx.x / a.groups, g = blockIdx.x % a.groups, width = a.cols / a.groups, stride = blockDim.x * step;
  const Act* y = a.y + r * a.cols + g * width;
  const Act* z = a.z + r * a.z_stride + g * width;
  const auto gated_at = [&](std::int64_t c) -> float4 {
    if (c >= width) return {0, 0, 0, 0};
    if constexpr (Fours) {
      const float4 v = load4(y + c), gate = load4(z + c);
      return {gated(v.x, gate.x), gated(v.y, gate.y), gated(v.z, gate.z), gated(v.w, gate.w)};
    } else {
      return {gated(wide(y[c]), wide(z[c])), 0, 0, 0};
    }
  };
  float4 held[held_a_thread];
  float squares = 0;
  const auto add_squares = [&](float4 v) { squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w; };
  const std::int64_t first = threadIdx.x * step;
#pragma unroll
  for (int k = 0; k < held_a_thread; ++k) held[k] = gated_at(first + k * stride);
#pragma unroll
  for (int k = 0; k < held_a_thread; ++k) add_squares(held[k]);
  for (std::int64_t c = first + held_a_thread * stride; c < width; c += stride) add_squares(gated_at(c));
  const float rstd = 1 / sqrtf(block_sum(squares) / static_cast<float>(width) + a.eps);
  const auto write = [&](std::int64_t c, float4 v) {
    const float* gain = a.gain + g * width;
    Act* out = a.out + r * a.cols + g * width;
    if (c >= width) return;
    if constexpr (Fours) {
      const float4 by = load4(gain + c);
      store4(out + c, {v.x * by.x * rstd, v.y * by.y * rstd, v.z * by.z * rstd, v.w * by.w * rstd});
    } else {
      out[c] = narrow<Act>(v.x * gain[c] * rstd);
    }
  };
#pragma unroll
  for (int k = 0; k < held_a_thread; ++k) write(first + k * stride, held[k]);
  for (std::int64_t c = first + held_a_thread * stride; c < width; c += stride) write(c, gated_at(c));
  if (threadIdx.x == 0) a.rstd[blockIdx.x] = rstd;
}

struct gated_slopes {
  float dy, dz;
};
__device__ gated_slopes gated_backward(float d_out, float y, float z, float gain, float rstd, float pull) {
  const float s = sigmoid(z), v = y * (z * s), dv = rstd * gain * d_out - v * pull;
  return {dv * (z * s), dv * y * silu_slope(z, s)};
}

template <class Act, bool Fours>
__global__ void gated_norm_backward_rows(gated_norm_backward_args<Act> a) {
  constexpr int step = Fours ? 4 : 1;
  const std::int64_t i = row_of_warp(), r = i / a.groups, g = i % a.groups, width = a.cols / a.groups;
  if (r >= a.rows) return;
  const std::int64_t at = r * a.cols + g * width;
  const Act *d_out = a.d_out + at, *y = a.y + at, *z = a.z + r * a.z_stride + g * width;
  Act *dy = a.dy + at, *dz = a.dz + r * a.dz_stride + g * width;
  const float* gain = a.gain + g * width;
  const auto term = [](float by, float d, float yc, float zc) { return by * d * (yc * (zc * sigmoid(zc))); };
  float along = 0;
#pragma unroll 4
  for (std::int64_t c = lane() * step; c < width; c += warp_size * step) {
    if constexpr (Fours) {
      const float4 d = load4(d_out + c), v = load4(y + c), gate = load4(z + c), by = load4(gain + c);
      along += term(by.x, d.x, v.x, gate.x) + term(by.y, d.y, v.y, gate.y) + term(by.z, d.z, v.z, gate.z) + term(by.w, d.w, v.w, gate.w);
    } else {
      along += term(gain[c], wide(d_out[c]), wide(y[c]), wide(z[c]));
    }
  }
  const float rstd = a.rstd[i], pull = warp_sum(along) * rstd * rstd * rstd / static_cast<float>(width);
#pragma unroll 2
  for (std::int64_t c = lane() * step; c < width; c += warp_size * step) {
    if constexpr (Fours) {
      const float4 d = load4(d_out + c), v = load4(y + c), gate = load4(z + c), by = load4(gain + c);
      const gated_slopes p = gated_backward(d.x, v.x, gate.x, by.x, rstd, pull), q = gated_backward(d.y, v.y, gate.y, by.y, rstd, pull);
      const gated_slopes s = gated_backward(d.z, v.z, gate.z, by.z, rstd, pull), t = gated_backward(d.w, v.w, gate.w, by.w, rstd, pull);
      store4(dy + c, {p.dy, q.dy, s.dy, t.dy});
      store4(dz + c, {p.dz, q.dz, s.dz, t.dz});
    } else {
      const gated_slopes p = gated_backward(wide(d_out[c]), wide(y[c]), wide(z[c]), gain[c], rstd, pull);
      dy[c] = narrow<Act>(p.dy);
      dz[c] = narrow<Act>(p.dz);
    }
  }
}

template <class Act>
struct gated_gain_term {
  const Act *d_out, *y, *z;
  const float* rstd;
  std::int64_t cols, groups, z_stride;
  __device__ float operator()(std::int64_t r, std::int64_t c) const {
    const float zc = wide(z[r * z_stride + c]);
    return wide(d_out[r * cols + c]) * (wide(y[r * cols + c]) * (zc * sigmoid(zc))) * rstd[r * groups + c / (cols / groups)];
  }
  __device__ float4 four(std::int64_t r, std::int64_t c) const {
    const float4 d = load4(d_out + r * cols + c), v = load4(y + r * cols + c), gate = load4(z + r * z_stride + c);
    const float by = rstd[r * groups + c / (cols / groups)];
    return {d.x * v.x * gate.x * sigmoid(gate.x) * by, d.y * v.y * gate.y * sigmoid(gate.y) * by, d.z * v.z * gate.z * sigmoid(gate.z) * by,
            d.w * v.w * gate.w * sigmoid(gate.w) * by};
  }
};

}  // namespace

template <class Act>
void rms_norm(stream& s, const rms_norm_args<Act>& a) {
  const bool vectors = fours(a.cols, a.residual, a.branch, a.gain, a.branch ? a.x : nullptr, a.y);
  launch(queue_of(s), "rms_norm", vectors ? rms_norm_rows<Act, true> : rms_norm_rows<Act, false>, row_grid(a.rows), row_threads, 0, a);
}

template <class Act>
void rms_norm_backward(stream& s, const rms_norm_backward_args<Act>& a) {
  queue& q = queue_of(s);
  const bool vectors = fours(a.cols, a.dy, a.x, a.gain, a.d_residual, a.dx, a.d_branch);
  add_column_sums(q, gain_term<Act>{a.dy, a.x, a.rstd, a.cols}, a.rows, a.cols, vectors, a.d_gain);
  launch(q, "rms_norm_backward", vectors ? rms_norm_backward_rows<Act, true> : rms_norm_backward_rows<Act, false>, row_grid(a.rows),
         row_threads, 0, a);
}

template <class Act>
void gated_norm(stream& s, const gated_norm_args<Act>& a) {
  const bool vectors = fours(a.cols / a.groups | a.z_stride, a.y, a.z, a.gain, a.out);
  const std::int64_t width = a.cols / a.groups, warps = std::clamp<std::int64_t>(ceil_div(width, (vectors ? 8 : 2) * warp_size), 1, 8);
  launch(queue_of(s), "gated_norm", vectors ? gated_norm_rows<Act, true> : gated_norm_rows<Act, false>,
         static_cast<unsigned>(a.rows * a.groups), static_cast<unsigned>(warps * warp_size), 0, a);
}

template <class Act>
void gated_norm_backward(stream& s, const gated_norm_backward_args<Act>& a) {
  queue& q = queue_of(s);
  const bool vectors = fours(a.cols / a.groups | a.z_stride | a.dz_stride, a.d_out, a.y, a.z, a.gain, a.dy, a.dz);
  // First, for dy may take the place of d_out.
  add_column_sums(q, gated_gain_term<Act>{a.d_out, a.y, a.z, a.rstd, a.cols, a.groups, a.z_stride}, a.rows, a.cols, vectors, a.d_gain);
  launch(q, "gated_norm_backward", vectors ? gated_norm_backward_rows<Act, true> : gated_norm_backward_rows<Act, false>,
         row_grid(a.rows * a.groups), row_threads, 0, a);
}

#define ISTHMUS_FOR(Act)                                                        \
  template void rms_norm(stream&, const rms_norm_args<Act>&);                   \
  template void rms_norm_backward(stream&, const rms_norm_backward_args<Act>&); \
  template void gated_norm(stream&, const gated_norm_args<Act>&);               \
  template void gated_norm_backward(stream&, const gated_norm_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
