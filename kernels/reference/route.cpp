#include "kernels/route.hpp"

#include "kernels/reference/math.hpp"
#include "kernels/reference/ops.hpp"

#include <algorithm>

namespace isthmus::kernels::reference {

namespace {

/// p = softmax(logits), or sigmoids; gives the log of the sum of the exponentials.
template <class Act>
real<Act> scores_of(const Act* logits, std::int64_t experts, router_rule rule, real<Act>* p) {
  using R = real<Act>;
  const R largest = load(*std::max_element(logits, logits + experts, [](Act a, Act b) { return load(a) < load(b); }));
  R sum = 0;
  for (std::int64_t e = 0; e < experts; ++e) sum += p[e] = exp_of(load(logits[e]) - largest);
  for (std::int64_t e = 0; e < experts; ++e) p[e] = rule == router_rule::sigmoid ? sigmoid(load(logits[e])) : p[e] / sum;
  return largest + log_of(sum);
}

/// Sigmoids are tiny where all logits are far below zero.
template <class Real>
constexpr Real least_sum = static_cast<Real>(1e-20);

template <class Real>
Real sum_of(const Real* p, const std::int32_t* chosen, std::int64_t active) {
  Real sum = 0;
  for (std::int64_t j = 0; j < active; ++j) sum += p[chosen[j]];
  return sum;
}

template <class Act>
void route_row(const route_args<Act>& a, std::int64_t r, real<Act>* p, real<Act>* biased) {
  using R = real<Act>;
  const Act* logits = a.logits + r * a.experts;
  std::int32_t* chosen = a.chosen + r * a.active;
  scores_of(logits, a.experts, a.rule, p);
  const bool corrected = a.rule == router_rule::sigmoid && a.correction;
  for (std::int64_t e = 0; e < a.experts; ++e) biased[e] = corrected ? p[e] + a.correction[e] : load(logits[e]);
  choose_largest(biased, a.experts, a.active, chosen);
  if (a.rule == router_rule::softmax)  // over the chosen alone: their sum over all may round to zero
    for (std::int64_t j = 0; j < a.active; ++j) p[chosen[j]] = exp_of(load(logits[chosen[j]]) - load(logits[chosen[0]]));
  const R sum = a.rule == router_rule::softmax_all ? R{1} : std::max(sum_of(p, chosen, a.active), least_sum<R>);
  for (std::int64_t j = 0; j < a.active; ++j) a.weights[r * a.active + j] = a.scale * p[chosen[j]] / sum;
}

/// The gradients of balance and of z, where d_logits are sums in real<Act>.
template <class Act>
void add_auxiliary(const route_backward_args<Act>& a, const Act* logits, const real<Act>* p, real<Act> lse, real<Act>* d) {
  using R = real<Act>;
  R sum = 0, mean = 0;
  for (std::int64_t e = 0; e < a.experts; ++e) sum += p[e];
  const auto slope = [&](std::int64_t e) { return a.balance * static_cast<R>(a.experts * a.counts[e]) / static_cast<R>(a.rows); };
  for (std::int64_t e = 0; e < a.experts; ++e) mean += p[e] / sum * slope(e);
  for (std::int64_t e = 0; e < a.experts; ++e)
    d[e] +=
        p[e] / sum * (slope(e) - mean) * (a.rule == router_rule::sigmoid ? 1 - p[e] : R{1}) + a.z * 2 * lse * exp_of(load(logits[e]) - lse);
}

template <class Act>
void route_backward_row(const route_backward_args<Act>& a, std::int64_t r, real<Act>* p, real<Act>* d) {
  using R = real<Act>;
  const Act* logits = a.logits + r * a.experts;
  const R lse = scores_of(logits, a.experts, a.rule, p);
  R along = 0;
  for (std::int64_t j = r * a.active; j < (r + 1) * a.active; ++j) along += a.weights[j] * a.d_weights[j];
  for (std::int64_t e = 0; e < a.experts; ++e) d[e] = a.rule == router_rule::softmax_all ? -p[e] * along : R{0};
  for (std::int64_t j = 0; j < a.active; ++j) {
    const std::int32_t e = a.chosen[r * a.active + j];
    const R w = a.weights[r * a.active + j], dw = a.d_weights[r * a.active + j];
    if (a.rule == router_rule::softmax_all)
      d[e] += w * dw;
    else
      d[e] += w * (dw - along / a.scale) * (a.rule == router_rule::sigmoid ? 1 - p[e] : R{1});
  }
  if (a.balance != 0 || a.z != 0) add_auxiliary(a, logits, p, lse, d);
  store(a.d_logits + r * a.experts, d, a.experts);
}

}  // namespace

template <class Act>
void route(stream& s, const route_args<Act>& a) {
  real<Act>* memory = scratch<Act>(s, 2 * a.experts);
  for (std::int64_t r = 0; r < a.rows; ++r) route_row(a, r, memory, memory + a.experts);
  sort_choices(a);
}

template <class Act>
void route_backward(stream& s, const route_backward_args<Act>& a) {
  real<Act>* memory = scratch<Act>(s, 2 * a.experts);
  for (std::int64_t r = 0; r < a.rows; ++r) route_backward_row(a, r, memory, memory + a.experts);
}

template <class Act>
void dispatch(stream&, const dispatch_args<Act>& a) {
  for (std::int64_t s = 0; s < a.slots; ++s) {
    Act* y = a.y + s * a.cols;
    if (a.source[s] < 0)
      std::fill_n(y, a.cols, static_cast<Act>(real<Act>{0}));
    else
      std::copy_n(a.x + a.source[s] / a.active * a.cols, a.cols, y);
  }
}

template <class Act>
void combine(stream&, const combine_args<Act>& a) {
  for (std::int64_t r = 0; r < a.rows; ++r)
    for (std::int64_t c = 0; c < a.cols; ++c) {
      Act& y = a.y[r * a.cols + c];
      real<Act> sum = a.adds ? load(y) : real<Act>{0};
      for (std::int64_t j = r * a.active; j < (r + 1) * a.active; ++j)
        sum += (a.weights ? a.weights[j] : real<Act>{1}) * load(a.x[a.place[j] * a.cols + c]);
      y = static_cast<Act>(sum);
    }
}

template <class Act>
void combine_backward(stream&, const combine_backward_args<Act>& a) {
  for (std::int64_t s = 0; s < a.slots; ++s) {
    const std::int32_t choice = a.source[s];
    Act* dx = a.dx + s * a.cols;
    if (choice < 0) {
      std::fill_n(dx, a.cols, static_cast<Act>(real<Act>{0}));
      continue;
    }
    const Act* dy = a.dy + choice / a.active * a.cols;
    a.d_weights[choice] = dot(dy, a.x + s * a.cols, a.cols);
    for (std::int64_t c = 0; c < a.cols; ++c) dx[c] = static_cast<Act>(a.weights[choice] * load(dy[c]));
  }
}

#define ISTHMUS_FOR(Act)                                                  \
  template void route(stream&, const route_args<Act>&);                   \
  template void route_backward(stream&, const route_backward_args<Act>&); \
  template void dispatch(stream&, const dispatch_args<Act>&);             \
  template void combine(stream&, const combine_args<Act>&);               \
  template void combine_backward(stream&, const combine_backward_args<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus::kernels::reference
