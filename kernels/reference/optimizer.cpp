#include "kernels/reference/ops.hpp"

#include <algorithm>
#include <cmath>

namespace isthmus::kernels::reference {

void adamw(stream&, const adamw_args& a) {
  for (std::int64_t e = 0; e < a.n_extents; ++e) {
    for (std::int64_t i = a.extents[e].offset; i < a.extents[e].offset + a.extents[e].count; ++i) {
      const float g = a.gradients[i] * a.gradient_scale;
      a.first[i] = a.beta1 * a.first[i] + (1 - a.beta1) * g;
      a.second[i] = a.beta2 * a.second[i] + (1 - a.beta2) * (g * g);
      const float move = a.first[i] / a.correction1 / (std::sqrt(a.second[i] / a.correction2) + a.eps);
      a.weights[i] -= a.rate * (move + a.extents[e].decay * a.weights[i]);
      if (a.clear_gradients) a.gradients[i] = 0;
    }
  }
}

void sum_of_squares(stream&, const sum_of_squares_args& a) {
  constexpr std::int64_t block = 4096;
  double sum = 0;
  for (std::int64_t begin = 0; begin < a.count; begin += block) {
    double part = 0;
    for (std::int64_t i = begin; i < std::min(begin + block, a.count); ++i)
      part += static_cast<double>(a.values[i]) * static_cast<double>(a.values[i]);
    sum += part;
  }
  *a.sum = sum;
}

}  // namespace isthmus::kernels::reference
