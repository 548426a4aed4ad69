#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.hpp"

#include <vector>

namespace isthmus::kernels::cuda {

namespace {

constexpr int threads = 128;
constexpr float least_sum_of_scores = 1e-20F;  // sigmoids are tiny where all logits are far below zero

struct softmax_of {
  float largest, sum;
};
template <class Act>
__device__ softmax_of exponentials(const Act* logits, std::int64_t experts) {
  softmax_of found{wide(logits[0]), 0};
  for (std::int64_t e = 1; e < experts; ++e) found.largest = fmaxf(found.largest, wide(logits[e]));
  for (std::int64_t e = 0; e < experts; ++e) found.sum += expf(wide(logits[e]) - found.largest);
  return found;
}
__device__ float exact_sigmoid(float x) { return 1 / (1 + expf(-x)); }

__device__ bool among(const std::int32_t* chosen, std::int64_t count, std::int64_t e) {
  for (std::int64_t j = 0; j < count; ++j)
    if (chosen[j] == e) return true;
  return false;
}

/// A thread a row: choice and weights.
template <class Act>
__global__ void choose(route_args<Act> a) {
  const std::int64_t r = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (r >= a.rows) return;
  const Act* logits = a.logits + r * a.experts;
  std::int32_t* chosen = a.chosen + r * a.active;
  const auto score = [&](std::int64_t e) {
    if (a.rule != router_rule::sigmoid) return wide(logits[e]);
    return exact_sigmoid(wide(logits[e])) + (a.correction ? a.correction[e] : 0);
  };
  for (std::int64_t j = 0; j < a.active; ++j) {
    std::int64_t best = -1;
    float highest = 0;
    for (std::int64_t e = 0; e < a.experts; ++e)
      if (const float s = score(e); (best < 0 || s > highest) && !among(chosen, j, e)) {
        best = e;
        highest = s;
      }
    chosen[j] = static_cast<std::int32_t>(best);
  }
  const softmax_of all = exponentials(logits, a.experts);
  const float first = wide(logits[chosen[0]]);
  const auto share = [&](std::int64_t j) {
    const float logit = wide(logits[chosen[j]]);
    return a.rule == router_rule::sigmoid ? exact_sigmoid(logit) : expf(logit - (a.rule == router_rule::softmax ? first : all.largest));
  };
  float sum = 0;
  for (std::int64_t j = 0; j < a.active; ++j) sum += share(j);
  if (a.rule == router_rule::softmax_all) sum = all.sum;
  for (std::int64_t j = 0; j < a.active; ++j) a.weights[r * a.active + j] = a.scale * share(j) / fmaxf(sum, least_sum_of_scores);
}

/// A warp an expert: how many chose it.
__global__ void count_choices(const std::int32_t* chosen, std::int64_t choices, std::int32_t* counts) {
  int count = 0;
  for (std::int64_t c = threadIdx.x; c < choices; c += warp_size) count += chosen[c] == static_cast<std::int32_t>(blockIdx.x) ? 1 : 0;
  for (int step = warp_size / 2; step > 0; step /= 2) count += __shfl_xor_sync(~0U, count, step);
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

__device__ std::int64_t rows_with_zeros(std::int64_t count) { return count < 64 ? count : (count + 15) / 16 * 16; }  // expert_rows

/// A warp an expert: its choices in ascending order, 32 looked at at once.
__global__ void place_choices(const std::int32_t* chosen, std::int64_t choices, const std::int32_t* counts, std::int32_t* place,
                              std::int32_t* source) {
  const auto expert = static_cast<std::int32_t>(blockIdx.x);
  std::int64_t next = 0;
  for (std::int32_t e = 0; e < expert; ++e) next += rows_with_zeros(counts[e]);
  const std::int64_t end = next + rows_with_zeros(counts[expert]);
  for (std::int64_t begin = 0; begin < choices; begin += warp_size) {
    const std::int64_t c = begin + threadIdx.x;
    const bool mine = c < choices && chosen[c] == expert;
    const unsigned all = __ballot_sync(~0U, mine), before = all & ((1U << threadIdx.x) - 1);
    if (mine) {
      const std::int64_t slot = next + __popc(before);
      place[c] = static_cast<std::int32_t>(slot);
      source[slot] = static_cast<std::int32_t>(c);
    }
    next += __popc(all);
  }
  for (std::int64_t slot = next + threadIdx.x; slot < end; slot += warp_size) source[slot] = -1;
}

/// A thread a row.
template <class Act>
__global__ void route_backward_rows(route_backward_args<Act> a) {
  const std::int64_t r = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (r >= a.rows) return;
  const Act* logits = a.logits + r * a.experts;
  const softmax_of all = exponentials(logits, a.experts);
  const float lse = all.largest + logf(all.sum);
  const bool sigmoids = a.rule == router_rule::sigmoid;
  const auto score = [&](std::int64_t e) {
    return sigmoids ? exact_sigmoid(wide(logits[e])) : expf(wide(logits[e]) - all.largest) / all.sum;
  };
  float along = 0, sum = 0, mean = 0;
  for (std::int64_t j = r * a.active; j < (r + 1) * a.active; ++j) along += a.weights[j] * a.d_weights[j];
  for (std::int64_t e = 0; e < a.experts; ++e) {
    sum += score(e);
    mean += score(e) * static_cast<float>(a.counts[e]);
  }
  mean /= sum;
  const float slope = a.balance * static_cast<float>(a.experts) / static_cast<float>(a.rows) / sum;
  for (std::int64_t e = 0; e < a.experts; ++e) {
    const float p = score(e), bend = sigmoids ? 1 - p : 1;
    float d = p * bend * slope * (static_cast<float>(a.counts[e]) - mean) + a.z * 2 * lse * expf(wide(logits[e]) - lse);
    if (a.rule == router_rule::softmax_all) d -= p * along;
    for (std::int64_t j = r * a.active; j < (r + 1) * a.active; ++j) {
      if (a.chosen[j] != e) continue;
      const float w = a.weights[j], dw = a.d_weights[j];
      d += a.rule == router_rule::softmax_all ? w * dw : w * (dw - along / a.scale) * bend;
    }
    a.d_logits[r * a.experts + e] = narrow<Act>(d);
  }
}

/// A block a slot.
template <class Act>
__global__ void dispatch_rows(dispatch_args<Act> a) {
  const std::int64_t s = blockIdx.x;
  const std::int32_t choice = a.source[s];
  for (std::int64_t c = threadIdx.x; c < a.cols; c += threads)
    a.y[s * a.cols + c] = choice < 0 ? narrow<Act>(0) : a.x[choice / a.active * a.cols + c];
}

/// A block a row.
template <class Act>
__global__ void combine_rows(combine_args<Act> a) {
  const std::int64_t r = blockIdx.x;
  for (std::int64_t c = threadIdx.x; c < a.cols; c += threads) {
    float sum = a.adds ? wide(a.y[r * a.cols + c]) : 0;
    for (std::int64_t j = r * a.active; j < (r + 1) * a.active; ++j)
      sum += (a.weights ? a.weights[j] : 1) * wide(a.x[a.place[j] * a.cols + c]);
    a.y[r * a.cols + c] = narrow<Act>(sum);
  }
}

/// A warp a slot: the sum over its columns is a tree of fixed order.
template <class Act>
__global__ void combine_backward_slots(combine_backward_args<Act> a) {
  const std::int64_t s = blockIdx.x;
  const std::int32_t choice = a.source[s];
  const float weight = choice < 0 ? 0 : a.weights[choice];
  float along = 0;
  for (std::int64_t c = threadIdx.x; c < a.cols; c += warp_size) {
    const float d = choice < 0 ? 0 : wide(a.dy[choice / a.active * a.cols + c]);
    along += d * wide(a.x[s * a.cols + c]);
    a.dx[s * a.cols + c] = narrow<Act>(weight * d);
  }
  along = warp_sum(along);
  if (choice >= 0 && threadIdx.x == 0) a.d_weights[choice] = along;
}

}  // namespace

template <class Act>
void route(stream& s, const route_args<Act>& a) {
  queue& q = queue_of(s);
  const std::int64_t choices = a.rows * a.active;
  const auto experts = static_cast<unsigned>(a.experts);
  launch(q, "route", choose<Act>, static_cast<unsigned>(ceil_div(a.rows, threads)), threads, 0, a);
  launch(q, "route's counts", count_choices, experts, warp_size, 0, a.chosen, choices, a.counts);
  launch(q, "route's places", place_choices, experts, warp_size, 0, a.chosen, choices, a.counts, a.place, a.source);
  std::vector<std::int32_t> counts(static_cast<std::size_t>(a.experts));
  device_memory.download(s, counts.data(), a.counts, counts.size() * sizeof(std::int32_t));
  a.starts[0] = 0;
  for (std::int64_t e = 0; e < a.experts; ++e) a.starts[e + 1] = a.starts[e] + expert_rows(counts[static_cast<std::size_t>(e)]);
}

template <class Act>
void route_backward(stream& s, const route_backward_args<Act>& a) {
  launch(queue_of(s), "route_backward", route_backward_rows<Act>, static_cast<unsigned>(ceil_div(a.rows, threads)), threads, 0, a);
}

template <class Act>
void dispatch(stream& s, const dispatch_args<Act>& a) {
  launch(queue_of(s), "dispatch", dispatch_rows<Act>, static_cast<unsigned>(a.slots), threads, 0, a);
}

template <class Act>
void combine(stream& s, const combine_args<Act>& a) {
  launch(queue_of(s), "combine", combine_rows<Act>, static_cast<unsigned>(a.rows), threads, 0, a);
}

template <class Act>
void combine_backward(stream& s, const combine_backward_args<Act>& a) {
  launch(queue_of(s), "combine_backward", combine_backward_slots<Act>, static_cast<unsigned>(a.slots), warp_size, 0, a);
}

#define ISTHMUS_FOR(Act)                                                  \
  template void route(stream&, const route_args<Act>&);                   \
  template void route_backward(stream&, const route_backward_args<Act>&); \
  template void dispatch(stream&, const dispatch_args<Act>&);             \
  template void combine(stream&, const combine_args<Act>&);               \
  template void combine_backward(stream&, const combine_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
