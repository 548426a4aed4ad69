#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::reference {

template <class Real>
void embedding(stream&, const embedding_args<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) std::copy_n(a.table + a.ids[r] * a.cols, a.cols, a.x + r * a.cols);
}

template <class Real>
void embedding_backward(stream&, const embedding_backward_args<Real>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) add_scaled<Real>(a.d_table + a.ids[r] * a.cols, Real{1}, a.dx + r * a.cols, a.cols);
}

template void embedding(stream&, const embedding_args<float>&);
template void embedding(stream&, const embedding_args<double>&);
template void embedding_backward(stream&, const embedding_backward_args<float>&);
template void embedding_backward(stream&, const embedding_backward_args<double>&);

}  // namespace isthmus::kernels::reference
