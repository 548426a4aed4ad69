#include "kernels/cuda/blas.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/matrix.cuh"
#include "kernels/cuda/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::cuda {

namespace {

constexpr int threads = 256, warps = threads / warp_size;
constexpr std::int64_t logits_at_once = std::int64_t{64} << 20;  // 256 MiB of fp32

/// The largest value seen and the sum of exp(v - largest).
struct peak_and_sum {
  float peak, sum;
  __device__ void take(float v) {
    const float peak_now = fmaxf(peak, v);
    sum = sum * __expf(peak - peak_now) + __expf(v - peak_now);
    peak = peak_now;
  }
  __device__ void take(float4 v) {
    const float peak_now = fmaxf(peak, fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)));
    sum = sum * __expf(peak - peak_now) +
          ((__expf(v.x - peak_now) + __expf(v.y - peak_now)) + (__expf(v.z - peak_now) + __expf(v.w - peak_now)));
    peak = peak_now;
  }
  __device__ void merge(peak_and_sum other) {
    const float peak_now = fmaxf(peak, other.peak);
    sum = sum * __expf(peak - peak_now) + other.sum * __expf(other.peak - peak_now);
    peak = peak_now;
  }
};

/// log sum exp of a row, in every thread of the block.
__device__ float row_lse(const float* logits, std::int64_t vocabulary) {
  constexpr float low = -3.0e38F;  // not infinity: the difference of two of them is no number
  peak_and_sum mine{low, 0};
  if (vocabulary % 4 == 0) {
#pragma unroll 4
    for (std::int64_t v = threadIdx.x * 4; v < vocabulary; v += threads * 4) mine.take(load4(logits + v));
  } else {
    for (std::int64_t v = threadIdx.x; v < vocabulary; v += threads) mine.take(logits[v]);
  }
  for (int step = warp_size / 2; step > 0; step /= 2)
    mine.merge({__shfl_xor_sync(~0U, mine.peak, step), __shfl_xor_sync(~0U, mine.sum, step)});
  __shared__ peak_and_sum of_warp[warps];
  if (threadIdx.x % warp_size == 0) of_warp[threadIdx.x / warp_size] = mine;
  __syncthreads();
  peak_and_sum all = of_warp[0];
  for (int w = 1; w < warps; ++w) all.merge(of_warp[w]);
  return all.peak + logf(all.sum);
}

/// One block a row. d_logits may be where the logits lie, or null: the loss alone.
template <class Act>
__global__ void softmax_rows(const float* logits, const std::int32_t* targets, float* losses, Act* d_logits, std::int64_t vocabulary,
                             float scale, float z_loss) {
  const std::int64_t r = blockIdx.x;
  const float* row = logits + r * vocabulary;
  const std::int32_t target = targets[r];
  const bool counts = target != no_target;
  const float lse = row_lse(row, vocabulary), of_target = counts ? row[target] : lse;
  __syncthreads();  // of_target is read before its place is overwritten
  if (threadIdx.x == 0) losses[r] = lse - of_target;
  if (!d_logits) return;
  const float by = counts ? scale : 0, pull = 1 + 2 * z_loss * lse;
  const auto slope = [&](float logit, std::int64_t v) { return (__expf(logit - lse) * pull - (v == target ? 1.0F : 0.0F)) * by; };
  if (vocabulary % 4 == 0) {
#pragma unroll 4
    for (std::int64_t v = threadIdx.x * 4; v < vocabulary; v += threads * 4) {
      const float4 logit = load4(row + v);
      store4(d_logits + r * vocabulary + v, {slope(logit.x, v), slope(logit.y, v + 1), slope(logit.z, v + 2), slope(logit.w, v + 3)});
    }
  } else {
    for (std::int64_t v = threadIdx.x; v < vocabulary; v += threads) d_logits[r * vocabulary + v] = narrow<Act>(slope(row[v], v));
  }
}

/// d_bias[v] += sum_r d_logits[r, v], in the order of the rows.
template <class Act>
__global__ void bias_gradient(const Act* d_logits, std::int64_t rows, std::int64_t vocabulary, float* d_bias) {
  const std::int64_t v = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (v >= vocabulary) return;
  float sum = 0;
  for (std::int64_t r = 0; r < rows; ++r) sum += wide(d_logits[r * vocabulary + v]);
  d_bias[v] += sum;
}

}  // namespace

template <class Act>
void cross_entropy(stream& s, const cross_entropy_args<Act>& a) {
  constexpr bool in_place = std::is_same_v<Act, float>;
  constexpr blas_type type = in_place ? blas_type::f32 : blas_type::b16;
  queue& q = queue_of(s);
  const std::int64_t vocabulary = a.head->out, cols = a.head->in;
  const std::int64_t rows_at_once = std::clamp<std::int64_t>(logits_at_once / vocabulary, 1, std::max<std::int64_t>(a.rows, 1));
  const std::size_t logits_bytes = static_cast<std::size_t>((rows_at_once * vocabulary + 63) / 64 * 64) * sizeof(float);
  std::byte* memory = q.scratch(logits_bytes + (in_place ? 0 : logits_bytes / 2));
  auto* logits = reinterpret_cast<float*>(memory);
  Act* d_logits = in_place ? reinterpret_cast<Act*>(memory) : reinterpret_cast<Act*>(memory + logits_bytes);
  const Act* w = weights_of(q, a.head);
  for (std::int64_t r = 0; r < a.rows; r += rows_at_once) {
    const std::int64_t rows = std::min(rows_at_once, a.rows - r);
    const Act* h = a.h + r * cols;
    multiply(q.blas(), {true, false, vocabulary, rows, cols, w, cols, h, cols, type, logits, vocabulary, blas_type::f32, 0});
    if (a.bias) bias(s, bias_args<float>{a.bias, logits, rows, vocabulary, vocabulary});
    launch(q, "softmax", softmax_rows<Act>, static_cast<unsigned>(rows), threads, 0, logits, a.targets + r, a.losses + r,
           a.dh ? d_logits : nullptr, vocabulary, a.scale, a.z_loss);
    if (!a.dh) continue;
    if (a.bias)
      launch(q, "bias gradient", bias_gradient<Act>, static_cast<unsigned>(ceil_div(vocabulary, threads)), threads, 0, d_logits, rows,
             vocabulary, a.d_bias);
    multiply(q.blas(), {false, false, cols, rows, vocabulary, w, cols, d_logits, vocabulary, type, a.dh + r * cols, cols, type, 0});
    multiply(q.blas(), {false, true, cols, vocabulary, rows, h, cols, d_logits, vocabulary, type, a.dw, cols, blas_type::f32, 1});
  }
}

template void cross_entropy(stream&, const cross_entropy_args<float>&);
template void cross_entropy(stream&, const cross_entropy_args<bf16>&);

}  // namespace isthmus::kernels::cuda
