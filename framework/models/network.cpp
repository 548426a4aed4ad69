#include "framework/models/network.hpp"

#include "framework/core/error.hpp"
#include "framework/models/layer_pairs.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <type_traits>

namespace isthmus {

static_assert(no_target == kernels::no_target);

template <class Act>
hybrid_network<Act>::hybrid_network(const model_config& config, const parameter_layout& layout, const kernels::op_table<Act>& ops,
                                    const kernels::op_table<real>& real_ops, kernels::stream& stream, const real* weights, real* gradients,
                                    std::int64_t tokens_at_once, const inference_formats& formats)
    : config_(config),
      tokens_at_once_(tokens_at_once),
      ops_(ops),
      real_ops_(real_ops),
      stream_(stream),
      medusa_(config, ops, real_ops, {layout, weights, gradients, formats}) {
  const parameter_view<real> parameters{layout, weights, gradients, formats};
  embedding_ = parameters.weight("model.embed_tokens.weight");
  d_embedding_ = parameters.gradient("model.embed_tokens.weight");
  const char* head = config.tied_head ? "model.embed_tokens.weight" : "lm_head.weight";
  d_head_ = parameters.gradient(head);
  head_ = ops.make_matrix(parameters.weight(head), config.vocabulary, config.d_model);
  logits_head_ = real_ops.make_quantised_matrix(parameters.weight(head), config.vocabulary, config.d_model, formats.weights);
  const auto layers = resolve_layers(config);
  if (!layers) throw contract_error(layers.error().message);
  const norm_names norms = norm_names_of(config);
  for (std::size_t i = 0; i < layers->size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    add_block(parameters, prefix, norms.mixer, (*layers)[i].mixer);
    add_block(parameters, prefix, norms.channel, (*layers)[i].channel);
  }
  if (config.encoder)
    add_ends(parameters);
  else
    final_norm_ = norm_of(parameters, "model.final_layernorm");
}

template <class Act>
typename hybrid_network<Act>::norm hybrid_network<Act>::norm_of(const parameter_view<real>& parameters, const std::string& name) const {
  const auto find = [&](const std::string& tensor) { return parameter<real>{parameters.weight(tensor), parameters.gradient(tensor)}; };
  if (config_.norm == norm_kind::rms_norm) return {.gain = find(name + ".weight"), .bias = {}};
  return {.gain = find(name + ".weight"), .bias = find(name + ".bias")};
}

template <class Act>
void hybrid_network<Act>::add_block(const parameter_view<real>& parameters, const std::string& prefix, const std::string& norm_name,
                                    const std::optional<layer_shape>& shape) {
  if (!shape) return;
  const layer_parts<Act> parts{ops_, parameters, prefix + std::string(shape->kind->folder) + ".", real_ops_};
  block& b = blocks_.emplace_back();
  if (!norm_name.empty()) b.before = norm_of(parameters, prefix + norm_name);
  b.mix = make_layer_of<Act>(*shape, parts);
  b.recomputed = d_embedding_ == nullptr;
  for (const auto& slot : parameters.layout.slots)
    if (slot.name.starts_with(parts.prefix)) b.weights += slot.count;
}

template <class Act>
void hybrid_network<Act>::weights_changed() {
  head_->weights_changed();
  logits_head_->weights_changed();
  if (encoder_) encoder_->dense.matrix()->weights_changed();
  medusa_.weights_changed();
  for (auto& b : blocks_) b.mix->weights_changed();
}

template <class Act>
void hybrid_network<Act>::check_ids(std::span<const std::int32_t> ids) const {
  for (const std::int32_t id : ids) ensure(id >= 0 && id < config_.vocabulary, "model: token id out of range");
}

template <class Act>
void hybrid_network<Act>::check_length(std::int64_t tokens) const {
  ensure(!config_.encoder || config_.encoder->positions == 0 || tokens <= config_.encoder->positions,
         "model: a text is longer than the encoder has positions");
}

/// A pass of batch_ x length_ whose rows start at a position.
template <class Act>
layer_pass<Act> hybrid_network<Act>::pass(std::int64_t first_position, real loss_scale) {
  return {ops_, stream_, batch_, length_, first_position, rotary_, nullptr, loss_scale};
}

template <class Act>
void hybrid_network<Act>::normalise(const layer_pass<Act>& p, const norm& n, const real* residual, const Act* branch, real* x) const {
  const auto eps = static_cast<real>(config_.norm_eps);
  if (config_.norm == norm_kind::layer_norm)
    return p.ops.layer_norm(p.stream, {.residual = residual,
                                       .branch = branch,
                                       .gain = n.gain.weight,
                                       .bias = n.bias.weight,
                                       .x = x,
                                       .y = n.y,
                                       .mean = n.mean,
                                       .rstd = n.rstd,
                                       .rows = p.rows(),
                                       .cols = config_.d_model,
                                       .eps = eps});
  p.ops.rms_norm(p.stream, {.residual = residual,
                            .branch = branch,
                            .gain = n.gain.weight,
                            .x = x,
                            .y = n.y,
                            .rstd = n.rstd,
                            .rows = p.rows(),
                            .cols = config_.d_model,
                            .eps = eps});
}

/// d_x_ grows by what comes through the norm (or, for the last norm, starts with it); gives it as the branch before it wants it.
template <class Act>
const Act* hybrid_network<Act>::normalise_backward(const layer_pass<Act>& p, const norm& n, const Act* dy, const real* x, bool last) {
  constexpr bool same = std::is_same_v<Act, real>;
  const real* d_residual = last ? nullptr : d_x_;
  Act* d_branch = same ? nullptr : d_branch_;
  if (config_.norm == norm_kind::layer_norm)
    p.ops.layer_norm_backward(p.stream, {.dy = dy,
                                         .x = x,
                                         .gain = n.gain.weight,
                                         .mean = n.mean,
                                         .rstd = n.rstd,
                                         .d_residual = d_residual,
                                         .dx = d_x_,
                                         .d_branch = d_branch,
                                         .d_gain = n.gain.gradient,
                                         .d_bias = n.bias.gradient,
                                         .rows = p.rows(),
                                         .cols = config_.d_model});
  else
    p.ops.rms_norm_backward(p.stream, {.dy = dy,
                                       .x = x,
                                       .gain = n.gain.weight,
                                       .rstd = n.rstd,
                                       .d_residual = d_residual,
                                       .dx = d_x_,
                                       .d_branch = d_branch,
                                       .d_gain = n.gain.gradient,
                                       .rows = p.rows(),
                                       .cols = config_.d_model});
  if constexpr (same)
    return d_x_;
  else
    return d_branch_;
}

template <class Act>
void hybrid_network<Act>::backward_blocks(const layer_pass<Act>& p) {
  const Act* dy = normalise_backward(p, final_norm_, d_norm_, x_out_, true);
  for (auto b = blocks_.rbegin(); b != blocks_.rend(); ++b) {
    if (b->recomputed) {
      normalise(p, b->before, b->x, nullptr, nullptr);
      b->mix->forward(p, b->before.y, branch_);
    }
    b->mix->backward(p, b->before.y, dy, d_norm_);
    dy = normalise_backward(p, b->before, d_norm_, b->x, false);
  }
  ops_.embedding_backward(
      stream_,
      {.dx = d_x_, .ids = inputs_, .d_table = d_embedding_, .rows = p.rows(), .cols = config_.d_model, .vocabulary = config_.vocabulary});
}

/// A document begins with its mark, at the beginning of a row perhaps without.
template <class Act>
void hybrid_network<Act>::find_documents() {
  for (std::int64_t r = 0; r < batch_ * length_; ++r) {
    const auto at = static_cast<std::int32_t>(r % length_);
    first_keys_[r] = at == 0 || inputs_[r] == config_.document_mark ? at : first_keys_[r - 1];
  }
}

template <class Act>
const Act* hybrid_network<Act>::forward(layer_pass<Act>& p) {
  if (config_.document_mark >= 0) find_documents();
  p.first_key = first_keys_;
  if (encoder_) return forward_encoder(p);
  ops_.embedding(stream_, {.table = embedding_,
                           .ids = inputs_,
                           .x = blocks_.front().x,
                           .rows = p.rows(),
                           .cols = config_.d_model,
                           .vocabulary = config_.vocabulary});
  const real* x = blocks_.front().x;
  for (auto& b : blocks_) {
    normalise(p, b.before, x, &b == blocks_.data() ? nullptr : branch_, b.x);
    b.mix->forward(p, b.before.y, branch_);
    x = b.x;
  }
  normalise(p, final_norm_, x, branch_, x_out_);
  return final_norm_.y;
}

template <class Act>
double hybrid_network<Act>::piece(const token_batch& batch, real scale, bool backward) {
  place(batch.rows, batch.context);
  auto p = pass(0, scale);
  for (std::int64_t r = 0; r < batch.rows; ++r) {
    const std::int32_t* row = batch.ids.data() + r * batch.width();
    std::copy_n(row, batch.context, inputs_ + r * batch.context);
    std::copy_n(batch.targets.empty() ? row + 1 : batch.targets.data() + r * batch.context, batch.context, targets_ + r * batch.context);
  }
  const Act* h = forward(p);
  ops_.cross_entropy(stream_, {.head = head_.get(),
                               .h = h,
                               .targets = targets_,
                               .losses = losses_,
                               .dh = backward ? d_norm_ : nullptr,
                               .dw = d_head_,
                               .rows = p.rows(),
                               .scale = scale,
                               .z_loss = static_cast<real>(config_.z_loss),
                               .bias = encoder_ ? encoder_->bias.weight : nullptr,
                               .d_bias = encoder_ ? encoder_->bias.gradient : nullptr});
  double sum = 0;
  for (std::int64_t r = 0; r < p.rows(); ++r) sum += static_cast<double>(losses_[r]);
  if (!backward) return sum;
  medusa_.train(p, h, inputs_, targets_, losses_, d_norm_);
  encoder_ ? backward_encoder(p) : backward_blocks(p);
  return sum;
}

template <class Act>
double hybrid_network<Act>::run(const token_batch& batch, double scale, bool backward) {
  ensure(batch.rows > 0 && batch.context > 0 && std::ssize(batch.ids) == batch.rows * batch.width(),
         "model: a batch has no rows, or ids of another shape");
  ensure(batch.targets.empty() || std::ssize(batch.targets) == batch.tokens(), "model: a batch has targets of another shape");
  check_ids(batch.ids);
  check_length(batch.context);
  for (const std::int32_t id : batch.targets) ensure(id >= no_target && id < config_.vocabulary, "model: a target out of range");
  const std::int64_t rows_at_once = follow_plan(batch.rows, batch.context, backward).rows_at_once;
  double sum = 0;
  for (std::int64_t row = 0; row < batch.rows; row += rows_at_once) {
    const std::int64_t rows = std::min(rows_at_once, batch.rows - row);
    const auto of_rows = [&](std::span<const std::int32_t> all, std::int64_t width) {
      return all.empty() ? all : all.subspan(static_cast<std::size_t>(row * width), static_cast<std::size_t>(rows * width));
    };
    sum += piece({of_rows(batch.ids, batch.width()), rows, batch.context, of_rows(batch.targets, batch.context)}, static_cast<real>(scale),
                 backward);
  }
  return sum;
}

template <class Act>
sequence_state hybrid_network<Act>::start() const {
  sequence_state state;
  for (const auto& b : blocks_) state.layers.push_back(b.mix->start());
  return state;
}

/// Their ids one behind the other, and which rows are whose.
template <class Act>
void hybrid_network<Act>::gather(std::span<const sequence_input> sequences) {
  ensure(!encoder_, "model: an encoder reads whole texts and does not decode");
  std::int64_t rows = 0;
  moving_.clear();
  for (const auto& s : sequences) {
    ensure(!s.ids.empty() && s.state->layers.size() == blocks_.size(), "model: no ids to read, or the state of another model");
    ensure(s.last > 0 && s.last <= std::ssize(s.ids), "model: logits of more ids than are read, or of none");
    check_ids(s.ids);
    moving_.push_back({rows, std::ssize(s.ids), s.state->position, nullptr});
    rows += std::ssize(s.ids);
  }
  place(1, rows);
  for (std::size_t i = 0; i < sequences.size(); ++i)
    std::copy(sequences[i].ids.begin(), sequences[i].ids.end(), inputs_ + moving_[i].first);
}

template <class Act>
std::span<const typename hybrid_network<Act>::real> hybrid_network<Act>::advance(std::span<const sequence_input> sequences) {
  gather(sequences);
  const auto p = pass(0, 0);
  const std::int64_t d = config_.d_model;
  ops_.embedding(stream_,
                 {.table = embedding_, .ids = inputs_, .x = x_out_, .rows = p.rows(), .cols = d, .vocabulary = config_.vocabulary});
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    block& b = blocks_[i];
    normalise(p, b.before, x_out_, i == 0 ? nullptr : branch_, x_out_);
    for (std::size_t s = 0; s < sequences.size(); ++s) moving_[s].state = &sequences[s].state->layers[i];
    b.mix->advance(p, moving_, b.before.y, branch_);
  }
  normalise(p, final_norm_, x_out_, branch_, x_out_);
  std::int64_t wanted = 0;
  for (const auto& s : sequences) wanted += s.last;
  real* rows = room_for_logits(wanted * (d + config_.vocabulary));
  real* logits = rows + wanted * d;
  real* to = rows;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const std::int64_t end = moving_[s].first + moving_[s].count;
    to = std::transform(final_norm_.y + (end - sequences[s].last) * d, final_norm_.y + end * d, to,
                        [](Act h) { return static_cast<real>(h); });
    sequences[s].state->position += moving_[s].count;
    drop_unseen(*sequences[s].state);
  }
  real_ops_.linear(stream_,
                   {.w = logits_head_.get(), .x = rows, .y = logits, .rows = wanted, .x_stride = d, .y_stride = config_.vocabulary});
  return {logits, static_cast<std::size_t>(wanted * config_.vocabulary)};
}

template <class Act>
std::span<const typename hybrid_network<Act>::real> hybrid_network<Act>::predict(std::span<const std::int32_t> ids,
                                                                                 std::span<const std::int64_t> places) {
  const auto length = static_cast<std::int64_t>(ids.size()), d = config_.d_model, count = static_cast<std::int64_t>(places.size());
  ensure(length > 0, "model: no ids to read");
  check_ids(ids);
  check_length(length);
  for (const std::int64_t at : places) ensure(at >= 0 && at < length, "model: a place that the text does not have");
  place(1, length);
  std::ranges::copy(ids, inputs_);
  auto p = pass(0, 0);
  const Act* h = forward(p);
  const std::int64_t vocabulary = config_.vocabulary;
  real* rows = room_for_logits(count * (d + vocabulary));
  real* logits = rows + count * d;
  for (std::int64_t i = 0; i < count; ++i) {
    const Act* row = h + places[static_cast<std::size_t>(i)] * d;
    std::transform(row, row + d, rows + i * d, [](Act v) { return static_cast<real>(v); });
  }
  real_ops_.linear(stream_, {.w = logits_head_.get(), .x = rows, .y = logits, .rows = count, .x_stride = d, .y_stride = vocabulary});
  if (encoder_)
    real_ops_.bias(stream_, {.bias = encoder_->bias.weight, .y = logits, .rows = count, .cols = vocabulary, .y_stride = vocabulary});
  return {logits, static_cast<std::size_t>(count * vocabulary)};
}

template <class Act>
std::span<const typename hybrid_network<Act>::real> hybrid_network<Act>::head_logits(std::int64_t row) {
  ensure(batch_ == 1 && row >= 0 && row < length_, "model: a row that was not just read");
  const std::int64_t numbers = medusa_.count() * config_.vocabulary;
  real* logits = room_for_logits(numbers);
  medusa_.logits({ops_, stream_, 1, 1, 0, rotary_}, final_norm_.y + row * config_.d_model, logits);
  return {logits, static_cast<std::size_t>(numbers)};
}

template <class Act>
typename hybrid_network<Act>::real* hybrid_network<Act>::room_for_logits(std::int64_t numbers) {
  const auto bytes = static_cast<std::size_t>(numbers) * sizeof(real);
  if (!logits_memory_ || logits_memory_->size() < bytes) {
    logits_memory_.reset();
    logits_memory_ = std::make_unique<buffer>(bytes);
  }
  return reinterpret_cast<real*>(logits_memory_->bytes().data());
}

template class hybrid_network<float>;
template class hybrid_network<kernels::bf16>;
template class hybrid_network<double>;

}  // namespace isthmus
