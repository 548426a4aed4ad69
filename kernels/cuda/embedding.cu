#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda {

namespace {

constexpr int threads = 128;

template <bool Fours>
__global__ void gather_rows(embedding_args<float> a) {
  const std::int64_t r = blockIdx.x;
  const float* from = a.table + a.ids[r] * a.cols;
  float* to = a.x + r * a.cols;
  if constexpr (Fours)
    for (std::int64_t c = threadIdx.x * 4; c < a.cols; c += threads * 4) store4(to + c, load4(from + c));
  else
    for (std::int64_t c = threadIdx.x; c < a.cols; c += threads) to[c] = from[c];
}

/// The first row of an id gathers all later ones of it, in ascending order: no atomic sum, so reruns agree bit for bit. Every block
/// reads all ids, which the cache holds.
template <bool Fours>
__global__ void scatter_rows(embedding_backward_args<float> a) {
  const std::int64_t r = blockIdx.x;
  const std::int32_t id = a.ids[r];
  bool seen = false;
  const auto* ids4 = reinterpret_cast<const int4*>(a.ids);
  for (std::int64_t i = threadIdx.x; Fours && i < r / 4 && !seen; i += threads) {
    const int4 v = ids4[i];
    seen = v.x == id || v.y == id || v.z == id || v.w == id;
  }
  for (std::int64_t i = Fours ? r / 4 * 4 + threadIdx.x : threadIdx.x; i < r && !seen; i += threads) seen = a.ids[i] == id;
  if (__syncthreads_or(seen)) return;
  __shared__ unsigned hits[threads / warp_size];
  for (std::int64_t begin = r; begin < a.rows; begin += threads) {
    const std::int64_t mine = begin + threadIdx.x;
    const unsigned found = __ballot_sync(~0U, mine < a.rows && a.ids[mine] == id);
    __syncthreads();
    if (threadIdx.x % warp_size == 0) hits[threadIdx.x / warp_size] = found;
    __syncthreads();
    for (int w = 0; w < threads / warp_size; ++w) {
      for (unsigned left = hits[w]; left != 0; left &= left - 1) {
        const float* from = a.dx + (begin + w * warp_size + __ffs(static_cast<int>(left)) - 1) * a.cols;
        for (std::int64_t c = threadIdx.x; c < a.cols; c += threads) a.d_table[id * a.cols + c] += from[c];
      }
    }
  }
}

}  // namespace

void embedding(stream& s, const embedding_args<float>& a) {
  launch(queue_of(s), "embedding", fours(a.cols, a.table, a.x) ? gather_rows<true> : gather_rows<false>, static_cast<unsigned>(a.rows),
         threads, 0, a);
}

void embedding_backward(stream& s, const embedding_backward_args<float>& a) {
  launch(queue_of(s), "embedding_backward", fours(0, a.ids) ? scatter_rows<true> : scatter_rows<false>, static_cast<unsigned>(a.rows),
         threads, 0, a);
}

}  // namespace isthmus::kernels::cuda
