#include "framework/models/network.hpp"

#include <utility>

// The passes of an encoder (Devlin et al. 2019, arXiv:1810.04805): norms behind the sums. What runs from block to block is of the activations' type.
namespace isthmus {

template <class Act>
void hybrid_network<Act>::add_ends(const parameter_view<real>& parameters) {
  const auto find = [&](const std::string& name) { return parameter<real>{parameters.weight(name), parameters.gradient(name)}; };
  const layer_parts<Act> head{ops_, parameters, "lm_head.", real_ops_};
  encoder_.emplace(encoder_ends{.positions = {},
                                .types = {},
                                .embedded = norm_of(parameters, "model.embed_layernorm"),
                                .dense = {head, {"dense.weight"}, true},
                                .head_norm = norm_of(parameters, "lm_head.layernorm"),
                                .bias = head.vector("bias")});
  if (config_.encoder->positions > 0) encoder_->positions = find("model.embed_positions.weight");
  if (config_.encoder->token_types > 0) encoder_->types = find("model.embed_types.weight");
}

template <class Act>
const Act* hybrid_network<Act>::embed(const layer_pass<Act>& p) {
  const auto& e = *encoder_;
  const std::int64_t d = config_.d_model;
  ops_.embedding(stream_, {.table = embedding_, .ids = inputs_, .x = e.sum, .rows = p.rows(), .cols = d, .vocabulary = config_.vocabulary});
  for (std::int64_t row = 0; e.positions.weight && row < p.batch; ++row)
    real_ops_.add(stream_,
                  {.x = e.positions.weight, .y = e.sum + row * p.length * d, .rows = p.length, .cols = d, .x_stride = d, .y_stride = d});
  if (e.types.weight) real_ops_.bias(stream_, {.bias = e.types.weight, .y = e.sum, .rows = p.rows(), .cols = d, .y_stride = d});
  normalise(p, e.embedded, e.sum, nullptr, nullptr);
  return e.embedded.y;
}

template <class Act>
const Act* hybrid_network<Act>::forward(const layer_pass<Act>& p, block& b, const Act* input) {
  const std::int64_t d = config_.d_model;
  b.input = input;
  b.mix->forward(p, input, b.alone() ? b.before.y : branch_);
  if (b.alone()) return b.before.y;
  ops_.add(stream_, {.x = input, .y = branch_, .rows = p.rows(), .cols = d, .x_stride = d, .y_stride = d});
  normalise(p, b.before, nullptr, branch_, b.x);
  return b.before.y;
}

template <class Act>
const Act* hybrid_network<Act>::forward_encoder(const layer_pass<Act>& p) {
  const Act* h = embed(p);
  for (auto& b : blocks_) h = forward(p, b, h);
  auto& e = *encoder_;
  e.dense.forward(p, h, e.dense_out);
  ops_.activation(stream_, {.x = e.dense_out,
                            .y = branch_,
                            .rows = p.rows(),
                            .hidden = config_.d_model,
                            .kind = kernels::activation_kind::gelu,
                            .gated = false});
  normalise(p, e.head_norm, nullptr, branch_, e.activated);
  return e.head_norm.y;
}

/// From the gradient of what the head reads to that of what the last block gives, both in d_norm_.
template <class Act>
void hybrid_network<Act>::backward_head(const layer_pass<Act>& p) {
  auto& e = *encoder_;
  const Act* d_activated = normalise_backward(p, e.head_norm, d_norm_, e.activated, true);
  const Act* last = blocks_.back().before.y;
  ops_.activation_backward(stream_, {.x = e.dense_out,
                                     .dy = d_activated,
                                     .dx = e.dense_out,
                                     .y = nullptr,
                                     .rows = p.rows(),
                                     .hidden = config_.d_model,
                                     .kind = kernels::activation_kind::gelu,
                                     .gated = false});
  e.dense.backward(p, last, e.dense_out, d_norm_);
}

template <class Act>
void hybrid_network<Act>::backward_embeddings(const layer_pass<Act>& p, const Act* dy) {
  const auto& e = *encoder_;
  const std::int64_t d = config_.d_model;
  normalise_backward(p, e.embedded, dy, e.sum, true);
  for (std::int64_t row = 0; e.positions.weight && row < p.batch; ++row)
    real_ops_.add(stream_,
                  {.x = d_x_ + row * p.length * d, .y = e.positions.gradient, .rows = p.length, .cols = d, .x_stride = d, .y_stride = d});
  if (e.types.weight)
    real_ops_.bias_backward(stream_, {.dy = d_x_, .d_bias = e.types.gradient, .rows = p.rows(), .cols = d, .dy_stride = d});
  ops_.embedding_backward(
      stream_, {.dx = d_x_, .ids = inputs_, .d_table = d_embedding_, .rows = p.rows(), .cols = d, .vocabulary = config_.vocabulary});
}

/// Gradients change between two places: what a block reads and what it writes.
template <class Act>
void hybrid_network<Act>::backward_encoder(const layer_pass<Act>& p) {
  const std::int64_t d = config_.d_model;
  backward_head(p);
  Act *dy = d_norm_, *dx = branch_;
  for (auto b = blocks_.rbegin(); b != blocks_.rend(); ++b) {
    if (b->recomputed) b->mix->forward(p, b->input, dx);  // for what it keeps
    const Act* d_sum = b->alone() ? dy : normalise_backward(p, b->before, dy, b->x, true);
    b->mix->backward(p, b->input, d_sum, dx);
    if (!b->alone()) ops_.add(stream_, {.x = d_sum, .y = dx, .rows = p.rows(), .cols = d, .x_stride = d, .y_stride = d});
    std::swap(dy, dx);
  }
  backward_embeddings(p, dy);
}

#define ISTHMUS_FOR(Act)                                                                  \
  template void hybrid_network<Act>::add_ends(const parameter_view<kernels::real<Act>>&); \
  template const Act* hybrid_network<Act>::forward_encoder(const layer_pass<Act>&);       \
  template void hybrid_network<Act>::backward_encoder(const layer_pass<Act>&);
ISTHMUS_FOR(float)
ISTHMUS_FOR(kernels::bf16)
ISTHMUS_FOR(double)
#undef ISTHMUS_FOR

}  // namespace isthmus
