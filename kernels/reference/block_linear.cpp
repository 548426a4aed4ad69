#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

namespace isthmus::kernels::reference {

template <class Act>
void block_linear(stream& s, const block_linear_args<Act>& a) {
  for (std::int64_t k = 0; k < a.blocks; ++k) linear(s, block_of(a, k));
}
template <class Act>
void block_linear_backward_input(stream& s, const block_linear_backward_input_args<Act>& a) {
  for (std::int64_t k = 0; k < a.blocks; ++k) linear_backward_input(s, block_of(a, k));
}
template <class Act>
void block_linear_backward_weight(stream& s, const block_linear_backward_weight_args<Act>& a) {
  for (std::int64_t k = 0; k < a.blocks; ++k) linear_backward_weight(s, block_of(a, k));
}

template <class Act>
void gate(stream&, const gate_args<Act>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r)
    for (std::int64_t c = 0; c < a.cols; ++c)
      a.y[r * a.y_stride + c] = static_cast<Act>(load(a.a[r * a.a_stride + c]) * load(a.b[r * a.b_stride + c]));
}
template <class Act>
void gate_backward(stream&, const gate_backward_args<Act>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    for (std::int64_t c = 0; c < a.cols; ++c) {
      const real<Act> dy = load(a.dy[r * a.dy_stride + c]);
      a.db[r * a.db_stride + c] = static_cast<Act>(dy * load(a.a[r * a.a_stride + c]));
      a.da[r * a.da_stride + c] = static_cast<Act>(dy * load(a.b[r * a.b_stride + c]));
    }
  }
}

template <class Act>
void shuffle(stream&, const shuffle_args<Act>& a) {
  const std::int64_t cols = a.outer * a.inner;
  for (std::int64_t r = 0; r < a.rows; ++r)
    for (std::int64_t o = 0; o < a.outer; ++o)
      for (std::int64_t i = 0; i < a.inner; ++i) a.y[r * cols + i * a.outer + o] = a.x[r * cols + o * a.inner + i];
}

template <class Act>
void add(stream&, const add_args<Act>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r)
    for (std::int64_t c = 0; c < a.cols; ++c)
      a.y[r * a.y_stride + c] = static_cast<Act>(load(a.y[r * a.y_stride + c]) + load(a.x[r * a.x_stride + c]));
}

#define ISTHMUS_FOR(Act)                                                                              \
  template void block_linear(stream&, const block_linear_args<Act>&);                                 \
  template void block_linear_backward_input(stream&, const block_linear_backward_input_args<Act>&);   \
  template void block_linear_backward_weight(stream&, const block_linear_backward_weight_args<Act>&); \
  template void gate(stream&, const gate_args<Act>&);                                                 \
  template void gate_backward(stream&, const gate_backward_args<Act>&);                               \
  template void shuffle(stream&, const shuffle_args<Act>&);                                           \
  template void add(stream&, const add_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
