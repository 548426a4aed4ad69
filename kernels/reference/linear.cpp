#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::reference {

template <class Act>
std::unique_ptr<matrix<Act>> make_matrix(const real<Act>* master, std::int64_t out, std::int64_t in) {
  return std::make_unique<reference_matrix<Act>>(master, out, in);
}

template <class Act>
std::unique_ptr<matrix<Act>> make_quantised_matrix(const real<Act>* master, std::int64_t out, std::int64_t in, weight_format format) {
  return std::make_unique<reference_matrix<Act>>(master, out, in, format);
}

template <class Act>
void linear(stream&, const linear_args<Act>& a) {
  const std::int64_t out = a.w->out, in = a.w->in;
  const real<Act>* w = values_of(a.w);
  for (std::int64_t r = 0; r < a.rows; ++r)
    for (std::int64_t o = 0; o < out; ++o) a.y[r * a.y_stride + o] = static_cast<Act>(dot(a.x + r * a.x_stride, w + o * in, in));
}

template <class Act>
void linear_backward_input(stream& s, const linear_backward_input_args<Act>& a) {
  ensure_trains(*a.w);
  const std::int64_t out = a.w->out, in = a.w->in;
  const real<Act>* w = values_of(a.w);
  real<Act>* sum = scratch<Act>(s, in);
  for (std::int64_t r = 0; r < a.rows; ++r) {
    std::fill_n(sum, in, real<Act>{0});
    for (std::int64_t o = 0; o < out; ++o) add_scaled<real<Act>>(sum, load(a.dy[r * a.dy_stride + o]), w + o * in, in);
    store(a.dx + r * a.dx_stride, sum, in);
  }
}

template <class Act>
void linear_backward_weight(stream&, const linear_backward_weight_args<Act>& a) {
  ensure_trains(*a.w);
  const std::int64_t out = a.w->out, in = a.w->in;
  for (std::int64_t o = 0; o < out; ++o)
    for (std::int64_t r = 0; r < a.rows; ++r) add_scaled<Act>(a.dw + o * in, load(a.dy[r * a.dy_stride + o]), a.x + r * a.x_stride, in);
}

#define ISTHMUS_FOR(Act)                                                                                                         \
  template std::unique_ptr<matrix<Act>> make_matrix<Act>(const real<Act>*, std::int64_t, std::int64_t);                          \
  template std::unique_ptr<matrix<Act>> make_quantised_matrix<Act>(const real<Act>*, std::int64_t, std::int64_t, weight_format); \
  template void linear(stream&, const linear_args<Act>&);                                                                        \
  template void linear_backward_input(stream&, const linear_backward_input_args<Act>&);                                          \
  template void linear_backward_weight(stream&, const linear_backward_weight_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
