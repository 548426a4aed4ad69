#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

namespace isthmus::kernels::reference {

template <class Act>
void swiglu(stream&, const swiglu_args<Act>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Act* x = a.x + r * 2 * a.hidden;
    for (std::int64_t c = 0; c < a.hidden; ++c) {
      const real<Act> gate = load(x[c]);
      a.y[r * a.hidden + c] = static_cast<Act>(gate * sigmoid(gate) * load(x[a.hidden + c]));
    }
  }
}

template <class Act>
void swiglu_backward(stream&, const swiglu_backward_args<Act>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Act* x = a.x + r * 2 * a.hidden;
    Act* dx = a.dx + r * 2 * a.hidden;
    for (std::int64_t c = 0; c < a.hidden; ++c) {
      const real<Act> gate = load(x[c]), up = load(x[a.hidden + c]), dy = load(a.dy[r * a.hidden + c]), s = sigmoid(gate);
      dx[c] = static_cast<Act>(dy * up * silu_slope(gate, s));
      dx[a.hidden + c] = static_cast<Act>(dy * gate * s);
      if (a.y) a.y[r * a.hidden + c] = static_cast<Act>(gate * s * up);
    }
  }
}

#define ISTHMUS_FOR(Act)                                  \
  template void swiglu(stream&, const swiglu_args<Act>&); \
  template void swiglu_backward(stream&, const swiglu_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
