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

/// What each id of the vocabulary has among the rows: the first of them and how many there are. The order of these atomic steps leaves
/// no trace.
struct id_counts {
  int *first, *rows;
};
__global__ void count_ids(const std::int32_t* ids, int rows, id_counts counts) {
  const int r = static_cast<int>(blockIdx.x) * threads + static_cast<int>(threadIdx.x);
  if (r >= rows) return;
  atomicMin(counts.first + ids[r], r);
  atomicAdd(counts.rows + ids[r], 1);
}

template <bool Fours>
__device__ void add_row(float* to, const float* from, std::int64_t cols) {
  if constexpr (Fours)
    for (std::int64_t c = threadIdx.x * 4; c < cols; c += threads * 4) {
      const float4 x = load4(from + c), sum = load4(to + c);
      store4(to + c, {sum.x + x.x, sum.y + x.y, sum.z + x.z, sum.w + x.w});
    }
  else
    for (std::int64_t c = threadIdx.x; c < cols; c += threads) to[c] += from[c];
}

/// The first row of an id gathers all later ones of it, in ascending order: no atomic sum, so reruns agree bit for bit.
template <bool Fours>
__global__ void scatter_rows(embedding_backward_args<float> a, id_counts counts) {
  const auto r = static_cast<int>(blockIdx.x);
  const std::int32_t id = a.ids[r];
  if (counts.first[id] != r) return;
  float* to = a.d_table + id * a.cols;
  add_row<Fours>(to, a.dx + r * a.cols, a.cols);
  __shared__ unsigned hits[threads / warp_size];
  int left_rows = counts.rows[id] - 1;
  for (std::int64_t begin = r + 1; left_rows > 0; begin += threads) {
    const std::int64_t mine = begin + threadIdx.x;
    const unsigned found = __ballot_sync(~0U, mine < a.rows && a.ids[mine] == id);
    __syncthreads();
    if (threadIdx.x % warp_size == 0) hits[threadIdx.x / warp_size] = found;
    __syncthreads();
    for (int w = 0; w < threads / warp_size; ++w)
      for (unsigned left = hits[w]; left != 0; left &= left - 1, --left_rows)
        add_row<Fours>(to, a.dx + (begin + w * warp_size + __ffs(static_cast<int>(left)) - 1) * a.cols, a.cols);
  }
}

}  // namespace

void embedding(stream& s, const embedding_args<float>& a) {
  launch(queue_of(s), "embedding", fours(a.cols, a.table, a.x) ? gather_rows<true> : gather_rows<false>, static_cast<unsigned>(a.rows),
         threads, 0, a);
}

void embedding_backward(stream& s, const embedding_backward_args<float>& a) {
  queue& q = queue_of(s);
  if (a.rows == 0) return;
  const auto bytes = static_cast<std::size_t>(a.vocabulary) * sizeof(int);
  auto* memory = reinterpret_cast<int*>(q.scratch(2 * bytes));
  const id_counts counts{memory, memory + a.vocabulary};
  constexpr int late = 0x7f;  // in each byte: behind every row
  check(cudaMemsetAsync(counts.first, late, bytes, q.handle()), "embedding_backward");
  check(cudaMemsetAsync(counts.rows, 0, bytes, q.handle()), "embedding_backward");
  launch(q, "embedding_backward's count", count_ids, static_cast<unsigned>(ceil_div(a.rows, threads)), threads, 0, a.ids,
         static_cast<int>(a.rows), counts);
  launch(q, "embedding_backward", fours(a.cols, a.dx, a.d_table) ? scatter_rows<true> : scatter_rows<false>, static_cast<unsigned>(a.rows),
         threads, 0, a, counts);
}

}  // namespace isthmus::kernels::cuda
