#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::reference {

template <class Act>
void cross_entropy(stream& s, const cross_entropy_args<Act>& a) {
  using R = real<Act>;
  const std::int64_t vocabulary = a.head->out, cols = a.head->in;
  const R* w = values_of(a.head);
  R* logits = scratch<Act>(s, vocabulary + cols);
  R* dh = logits + vocabulary;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const Act* h = a.h + r * cols;
    for (std::int64_t v = 0; v < vocabulary; ++v) logits[v] = dot(h, w + v * cols, cols) + (a.bias ? a.bias[v] : R{0});
    const R top = *std::max_element(logits, logits + vocabulary);
    R total = 0;
    for (std::int64_t v = 0; v < vocabulary; ++v) total += exp_of(logits[v] - top);
    const R lse = top + log_of(total);
    const bool counts = a.targets[r] != no_target;
    a.losses[r] = counts ? lse - logits[a.targets[r]] : R{0};
    if (!a.dh) continue;
    std::fill_n(dh, cols, R{0});
    for (std::int64_t v = 0; counts && v < vocabulary; ++v) {
      const R d_logit = (exp_of(logits[v] - lse) * (1 + 2 * a.z_loss * lse) - (v == a.targets[r] ? R{1} : R{0})) * a.scale;
      add_scaled<R>(dh, d_logit, w + v * cols, cols);
      add_scaled<Act>(a.dw + v * cols, d_logit, h, cols);
      if (a.bias) a.d_bias[v] += d_logit;
    }
    store(a.dh + r * cols, dh, cols);
  }
}

template void cross_entropy(stream&, const cross_entropy_args<float>&);
template void cross_entropy(stream&, const cross_entropy_args<bf16>&);
template void cross_entropy(stream&, const cross_entropy_args<double>&);

}  // namespace isthmus::kernels::reference
