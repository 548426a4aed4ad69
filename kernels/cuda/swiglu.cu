#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda {

namespace {

constexpr int threads = 256;

template <class Act, bool Fours>
__global__ void swiglu_elements(swiglu_args<Act> a) {
  constexpr int step = Fours ? 4 : 1;
  const std::int64_t r = blockIdx.y, c = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * step;
  if (c >= a.hidden) return;
  const Act* x = a.x + r * 2 * a.hidden;
  if constexpr (Fours) {
    const float4 g = load4(x + c), u = load4(x + a.hidden + c);
    store4(a.y + r * a.hidden + c,
           {g.x * sigmoid(g.x) * u.x, g.y * sigmoid(g.y) * u.y, g.z * sigmoid(g.z) * u.z, g.w * sigmoid(g.w) * u.w});
  } else {
    const float gate = wide(x[c]);
    a.y[r * a.hidden + c] = narrow<Act>(gate * sigmoid(gate) * wide(x[a.hidden + c]));
  }
}

struct swiglu_slopes {
  float d_gate, d_up, y;
};
__device__ swiglu_slopes slopes(float gate, float up, float dy) {
  const float s = sigmoid(gate);
  return {dy * up * silu_slope(gate, s), dy * gate * s, gate * s * up};
}

template <class Act, bool Fours>
__global__ void swiglu_backward_elements(swiglu_backward_args<Act> a) {
  constexpr int step = Fours ? 4 : 1;
  const std::int64_t r = blockIdx.y, c = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * step;
  if (c >= a.hidden) return;
  const Act* x = a.x + r * 2 * a.hidden + c;
  Act* dx = a.dx + r * 2 * a.hidden + c;
  const std::int64_t at = r * a.hidden + c;
  if constexpr (Fours) {
    const float4 g = load4(x), u = load4(x + a.hidden), d = load4(a.dy + at);
    const swiglu_slopes p = slopes(g.x, u.x, d.x), q = slopes(g.y, u.y, d.y), s = slopes(g.z, u.z, d.z), t = slopes(g.w, u.w, d.w);
    store4(dx, {p.d_gate, q.d_gate, s.d_gate, t.d_gate});
    store4(dx + a.hidden, {p.d_up, q.d_up, s.d_up, t.d_up});
    if (a.y) store4(a.y + at, {p.y, q.y, s.y, t.y});
  } else {
    const swiglu_slopes p = slopes(wide(x[0]), wide(x[a.hidden]), wide(a.dy[at]));
    dx[0] = narrow<Act>(p.d_gate);
    dx[a.hidden] = narrow<Act>(p.d_up);
    if (a.y) a.y[at] = narrow<Act>(p.y);
  }
}

/// Rows go over the grid's second extent, which ends at 65535: more take several launches.
constexpr std::int64_t rows_max = 65535;

dim3 grid_of(std::int64_t rows, std::int64_t hidden, bool vectors) {
  return {static_cast<unsigned>(ceil_div(hidden, threads * (vectors ? 4 : 1))), static_cast<unsigned>(rows)};
}

}  // namespace

template <class Act>
void swiglu(stream& s, const swiglu_args<Act>& a) {
  const bool vectors = fours(a.hidden, a.x, a.y);
  for (std::int64_t r = 0; r < a.rows; r += rows_max) {
    const std::int64_t rows = std::min(rows_max, a.rows - r);
    launch(queue_of(s), "swiglu", vectors ? swiglu_elements<Act, true> : swiglu_elements<Act, false>, grid_of(rows, a.hidden, vectors),
           threads, 0, swiglu_args<Act>{a.x + r * 2 * a.hidden, a.y + r * a.hidden, rows, a.hidden});
  }
}

template <class Act>
void swiglu_backward(stream& s, const swiglu_backward_args<Act>& a) {
  const bool vectors = fours(a.hidden, a.x, a.dy, a.dx, a.y);
  for (std::int64_t r = 0; r < a.rows; r += rows_max) {
    const std::int64_t rows = std::min(rows_max, a.rows - r), wide_at = r * 2 * a.hidden, at = r * a.hidden;
    launch(queue_of(s), "swiglu_backward", vectors ? swiglu_backward_elements<Act, true> : swiglu_backward_elements<Act, false>,
           grid_of(rows, a.hidden, vectors), threads, 0,
           swiglu_backward_args<Act>{a.x + wide_at, a.dy + at, a.dx + wide_at, a.y ? a.y + at : nullptr, rows, a.hidden});
  }
}

#define ISTHMUS_FOR(Act)                                  \
  template void swiglu(stream&, const swiglu_args<Act>&); \
  template void swiglu_backward(stream&, const swiglu_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
