#pragma once

#include "kernels/linear.hpp"

#include <cstdint>

namespace isthmus::kernels {

/// The head and its loss in one: logits = h W^T + bias, losses[r] = logsumexp(logits[r]) - logits[r, targets[r]] in nats, and, when dh is
/// given, dlogits = (softmax(logits) - onehot) * scale, dh = dlogits W, dw += dlogits^T h, d_bias += sum_r dlogits. Goes over chunks of rows, logits in
/// scratch memory and dlogits in their place: never a rows x vocabulary buffer. Softmax in real<Act>. A row whose target is `no_target`
/// counts nothing: loss 0, gradient 0. With z_loss, what is differentiated is losses[r] + z_loss logsumexp(logits[r])^2 (Chowdhery et al.
/// 2022, arXiv:2204.02311); losses are told without it.
/// dw adds to what embedding_backward adds to: the head is tied.
constexpr std::int32_t no_target = -1;

template <class Act>
struct cross_entropy_args {
  matrix<Act>* head;            // [vocabulary, cols]
  const Act* h;                 // [rows, cols], contiguous
  const std::int32_t* targets;  // [rows], checked by the caller; no_target: none
  real<Act>* losses;            // [rows]
  Act* dh;                      // [rows, cols], or null: forward only
  real<Act>* dw;                // [vocabulary, cols]; unused when dh is null
  std::int64_t rows;
  real<Act> scale;
  real<Act> z_loss = 0;
  const real<Act>* bias = nullptr;  // [vocabulary], or null: none
  real<Act>* d_bias = nullptr;      // [vocabulary]; unused when bias or dh is null
};

}  // namespace isthmus::kernels
