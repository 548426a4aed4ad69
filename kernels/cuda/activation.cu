#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.hpp"

namespace isthmus::kernels::cuda {

namespace {

constexpr int threads = 256;

/// A function's value and slope.
struct curve {
  float value, slope;
};

template <activation_kind Kind>
__device__ curve curve_of(float x) {
  if constexpr (Kind == activation_kind::silu) {
    const float s = sigmoid(x);
    return {x * s, silu_slope(x, s)};
  } else if constexpr (Kind == activation_kind::gelu) {
    const float phi = normcdff(x);
    return {x * phi, phi + 0.398942280F * x * __expf(-0.5F * x * x)};
  } else if constexpr (Kind == activation_kind::gelu_tanh) {
    const float s = sigmoid(x * (1.59576912F + 0.0713548163F * x * x));  // (1 + tanh(u)) / 2 = sigmoid(2 u)
    return {x * s, s + x * s * (1 - s) * (1.59576912F + 0.214064449F * x * x)};
  } else {
    const float above = x < 0 ? 0 : x;  // a NaN stays one
    return {above * above, 2 * above};
  }
}

template <class Act, activation_kind Kind, bool Gated, bool Fours>
__global__ void elements(activation_args<Act> a) {
  constexpr int step = Fours ? 4 : 1;
  const std::int64_t r = blockIdx.y, c = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * step;
  if (c >= a.hidden) return;
  const Act* x = a.x + r * (Gated ? 2 : 1) * a.hidden + c;
  const auto f = [](float value) { return curve_of<Kind>(value).value; };
  if constexpr (Fours) {
    const float4 g = load4(x), u = Gated ? load4(x + a.hidden) : float4{1, 1, 1, 1};
    store4(a.y + r * a.hidden + c, {f(g.x) * u.x, f(g.y) * u.y, f(g.z) * u.z, f(g.w) * u.w});
  } else {
    a.y[r * a.hidden + c] = narrow<Act>(f(wide(x[0])) * (Gated ? wide(x[a.hidden]) : 1));
  }
}

struct slopes {
  float d_gate, d_up, y;
};
template <activation_kind Kind>
__device__ slopes slopes_of(float gate, float up, float dy) {
  const curve f = curve_of<Kind>(gate);
  return {dy * up * f.slope, dy * f.value, f.value * up};
}

template <class Act, activation_kind Kind, bool Gated, bool Fours>
__global__ void backward_elements(activation_backward_args<Act> a) {
  constexpr int step = Fours ? 4 : 1;
  const std::int64_t r = blockIdx.y, c = (static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x) * step;
  if (c >= a.hidden) return;
  const Act* x = a.x + r * (Gated ? 2 : 1) * a.hidden + c;
  Act* dx = a.dx + r * (Gated ? 2 : 1) * a.hidden + c;
  const std::int64_t at = r * a.hidden + c;
  if constexpr (Fours) {
    const float4 g = load4(x), u = Gated ? load4(x + a.hidden) : float4{1, 1, 1, 1}, d = load4(a.dy + at);
    const slopes p = slopes_of<Kind>(g.x, u.x, d.x), q = slopes_of<Kind>(g.y, u.y, d.y);
    const slopes s = slopes_of<Kind>(g.z, u.z, d.z), t = slopes_of<Kind>(g.w, u.w, d.w);
    store4(dx, {p.d_gate, q.d_gate, s.d_gate, t.d_gate});
    if (Gated) store4(dx + a.hidden, {p.d_up, q.d_up, s.d_up, t.d_up});
    if (a.y) store4(a.y + at, {p.y, q.y, s.y, t.y});
  } else {
    const slopes p = slopes_of<Kind>(wide(x[0]), Gated ? wide(x[a.hidden]) : 1, wide(a.dy[at]));
    dx[0] = narrow<Act>(p.d_gate);
    if (Gated) dx[a.hidden] = narrow<Act>(p.d_up);
    if (a.y) a.y[at] = narrow<Act>(p.y);
  }
}

/// Rows go over the grid's second extent, which ends at 65535: more take several launches.
constexpr std::int64_t rows_max = 65535;

template <class Args, bool Fours, activation_kind Kind, bool Gated>
struct pass;
template <class Act, bool Fours, activation_kind Kind, bool Gated>
struct pass<activation_args<Act>, Fours, Kind, Gated> {
  static constexpr auto kernel = elements<Act, Kind, Gated, Fours>;
};
template <class Act, bool Fours, activation_kind Kind, bool Gated>
struct pass<activation_backward_args<Act>, Fours, Kind, Gated> {
  static constexpr auto kernel = backward_elements<Act, Kind, Gated, Fours>;
};

template <class Args, bool Fours, activation_kind Kind>
auto kernel_of(bool gated) {
  return gated ? pass<Args, Fours, Kind, true>::kernel : pass<Args, Fours, Kind, false>::kernel;
}

template <bool Fours, class Args>
void launch_any(stream& s, const char* name, const Args& a) {
  const dim3 grid{static_cast<unsigned>(ceil_div(a.hidden, threads * (Fours ? 4 : 1))), static_cast<unsigned>(a.rows)};
  const auto kernel = a.kind == activation_kind::silu        ? kernel_of<Args, Fours, activation_kind::silu>(a.gated)
                      : a.kind == activation_kind::gelu      ? kernel_of<Args, Fours, activation_kind::gelu>(a.gated)
                      : a.kind == activation_kind::gelu_tanh ? kernel_of<Args, Fours, activation_kind::gelu_tanh>(a.gated)
                                                             : kernel_of<Args, Fours, activation_kind::relu2>(a.gated);
  launch(queue_of(s), name, kernel, grid, threads, 0, a);
}

}  // namespace

template <class Act>
void activation(stream& s, const activation_args<Act>& a) {
  const bool vectors = fours(a.hidden, a.x, a.y);
  for (std::int64_t r = 0; r < a.rows; r += rows_max) {
    activation_args<Act> piece = a;
    piece.x += r * (a.gated ? 2 : 1) * a.hidden;
    piece.y += r * a.hidden;
    piece.rows = std::min(rows_max, a.rows - r);
    vectors ? launch_any<true>(s, "activation", piece) : launch_any<false>(s, "activation", piece);
  }
}

template <class Act>
void activation_backward(stream& s, const activation_backward_args<Act>& a) {
  const bool vectors = fours(a.hidden, a.x, a.dy, a.dx, a.y);
  for (std::int64_t r = 0; r < a.rows; r += rows_max) {
    activation_backward_args<Act> piece = a;
    const std::int64_t wide_at = r * (a.gated ? 2 : 1) * a.hidden, at = r * a.hidden;
    piece.x += wide_at;
    piece.dx += wide_at;
    piece.dy += at;
    if (a.y) piece.y += at;
    piece.rows = std::min(rows_max, a.rows - r);
    vectors ? launch_any<true>(s, "activation_backward", piece) : launch_any<false>(s, "activation_backward", piece);
  }
}

#define ISTHMUS_FOR(Act)                                          \
  template void activation(stream&, const activation_args<Act>&); \
  template void activation_backward(stream&, const activation_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::cuda
