#pragma once

#include "kernels/bf16.hpp"

#include <algorithm>
#include <cstdint>

namespace isthmus::kernels {

/// How a token's logits choose its experts and weigh them. Equal ones: the expert of lower number first.
///   softmax      the largest logits; softmax over the chosen alone, which is softmax over all, renormalised (Mixtral, arXiv:2401.04088)
///   softmax_all  the largest logits; softmax over all, as it is (Jamba, arXiv:2403.19887; Switch, arXiv:2101.03961)
///   sigmoid      the largest s + correction, s = sigmoid(logit); s / sum of the chosen s (DeepSeek-V3, arXiv:2412.19437, eq. 12-16)
enum class router_rule { softmax, softmax_all, sigmoid };

/// Rows behind each other that `count` tokens of one expert take: many are rounded up, with rows of zeros, so that products come in few
/// shapes, for each of which a library generates code.
constexpr std::int64_t expert_rows(std::int64_t count) { return count < 64 ? count : (count + 15) / 16 * 16; }
/// Slots that any choice fits into.
constexpr std::int64_t slots_at_most(std::int64_t rows, std::int64_t experts, std::int64_t active) {
  return rows * active + 15 * std::min(experts, rows * active / 64);
}

/// Chooses experts and sorts: slots [starts[e], starts[e + 1]) are expert e's, its tokens in ascending order, then zeros.
template <class Act>
struct route_args {
  const Act* logits;            // [rows, experts]
  const real<Act>* correction;  // [experts], read by sigmoid; null: zeros
  std::int32_t* chosen;         // [rows, active]: best first
  real<Act>* weights;           // [rows, active]
  std::int32_t* counts;         // [experts]: tokens of each
  std::int32_t* place;          // [rows, active]: the slot of each choice
  std::int32_t* source;         // [slots_at_most]: the choice (row * active + j) in each slot, -1 in slots of zeros; [0, starts[experts])
  std::int64_t* starts;         // the host's, [experts + 1]: there when it returns
  std::int64_t rows, experts, active;  // 0 < active <= experts, rows * active < 2^31
  router_rule rule;
  real<Act> scale;  // of all weights
};

/// d_logits overwrites: what comes through the weights, and the gradient of
///   balance * rows * experts * sum_e f_e P_e + z * sum_r lse(logits_r)^2,
/// f_e = counts[e] / rows, P_e the mean over the rows of softmax(logits) (sigmoid: of s / sum of s). The first is Switch's loss for
/// balance (arXiv:2101.03961, eq. 4, here with `active` choices a token), the second ST-MoE's z-loss (arXiv:2202.08906, eq. 5), both
/// as sums over the rows. f is constant in them.
template <class Act>
struct route_backward_args {
  const Act* logits;           // as in the forward pass, as are chosen, weights and counts
  const std::int32_t* chosen;  // [rows, active]
  const real<Act>* weights;    // [rows, active]
  const std::int32_t* counts;  // [experts]
  const real<Act>* d_weights;  // [rows, active]
  Act* d_logits;               // [rows, experts]
  std::int64_t rows, experts, active;
  router_rule rule;
  real<Act> scale, balance, z;
};

/// y[s] = x[source[s] / active], or zeros.
template <class Act>
struct dispatch_args {
  const Act* x;                // [rows, cols]
  const std::int32_t* source;  // [slots]
  Act* y;                      // [slots, cols]
  std::int64_t slots, active, cols;
};

/// y[r] = sum_j weights[r, j] x[place[r, j]], j ascending, to which y[r] is added if so told. Without weights (null) they are 1: the
/// gradient of dispatch.
template <class Act>
struct combine_args {
  const Act* x;               // [slots, cols]
  const std::int32_t* place;  // [rows, active]
  const real<Act>* weights;   // [rows, active], or null
  Act* y;                     // [rows, cols]
  std::int64_t rows, active, cols;
  bool adds;
};

/// For the choice c = source[s] of row r: dx[s] = weights[c] dy[r], d_weights[c] = <dy[r], x[s]>; in slots of zeros dx = 0.
template <class Act>
struct combine_backward_args {
  const Act* dy;               // [rows, cols]
  const Act* x;                // [slots, cols]
  const std::int32_t* source;  // [slots]
  const real<Act>* weights;    // [rows, active]
  Act* dx;                     // [slots, cols]; may alias x
  real<Act>* d_weights;        // [rows, active]
  std::int64_t slots, active, cols;
};

/// The `active` largest of scores [experts], best first, into chosen; of equal ones the first.
template <class Real>
void choose_largest(const Real* scores, std::int64_t experts, std::int64_t active, std::int32_t* chosen) {
  for (std::int64_t j = 0; j < active; ++j) {
    std::int64_t best = -1;
    for (std::int64_t e = 0; e < experts; ++e)
      if ((best < 0 || scores[e] > scores[best]) && std::find(chosen, chosen + j, static_cast<std::int32_t>(e)) == chosen + j) best = e;
    chosen[j] = static_cast<std::int32_t>(best);
  }
}

/// counts, place, source and starts of route_args from its `chosen`, all on the host.
template <class Act>
void sort_choices(const route_args<Act>& a) {
  const std::int64_t choices = a.rows * a.active;
  std::fill_n(a.counts, a.experts, 0);
  for (std::int64_t c = 0; c < choices; ++c) ++a.counts[a.chosen[c]];
  a.starts[0] = 0;
  for (std::int64_t e = 0; e < a.experts; ++e) a.starts[e + 1] = a.starts[e] + expert_rows(a.counts[e]);
  std::fill_n(a.source, a.starts[a.experts], -1);
  std::fill_n(a.counts, a.experts, 0);
  for (std::int64_t c = 0; c < choices; ++c) {
    const std::int32_t e = a.chosen[c];
    a.place[c] = static_cast<std::int32_t>(a.starts[e] + a.counts[e]++);
    a.source[a.place[c]] = static_cast<std::int32_t>(c);
  }
}

}  // namespace isthmus::kernels
