#include "framework/layers/moe/moe.hpp"

#include <algorithm>
#include <array>
#include <string>

namespace isthmus {

namespace {

constexpr const char* correction_name = "router.e_score_correction_bias";

/// A pass over `rows` rows of nobody's text.
template <class Act>
layer_pass<Act> over_rows(layer_pass<Act> p, std::int64_t rows) {
  p.batch = 1;
  p.length = rows;
  return p;
}

/// The gradient of a product's weights, in pieces of rows: so many at once read the weights' gradient seldom enough, and products come in
/// few shapes, for each of which a library generates code.
template <class Act>
void backward_weight(const projection<Act>& w, const layer_pass<Act>& p, const Act* x, const Act* dy) {
  constexpr std::int64_t rows_at_once = 256;
  for (std::int64_t r = 0; r < p.rows(); r += rows_at_once)
    w.backward_weight(over_rows(p, std::min(rows_at_once, p.rows() - r)), x + r * w.in(), dy + r * w.out());
}

}  // namespace

template <class Act>
moe_layer<Act>::moe_layer(const layer_shape& shape, const layer_parts<Act>& parts)
    : d_(shape.d_model),
      n_experts_(shape.integer("moe_experts")),
      active_(shape.integer("moe_active")),
      hidden_(shape.integer("moe_hidden")),
      shared_hidden_(shape.integer("moe_shared_hidden")),
      activation_(static_cast<kernels::activation_kind>(shape.integer("moe_activation"))),
      gated_(shape.flag("moe_gated")),
      rule_(static_cast<kernels::router_rule>(shape.integer("moe_router"))),
      scale_(static_cast<real>(shape.real("moe_scale"))),
      balance_(static_cast<real>(shape.real("moe_balance"))),
      z_loss_(static_cast<real>(shape.real("moe_z_loss"))),
      router_(parts.ops.make_matrix(parts.vector("router.weight").weight, n_experts_, d_)),
      d_router_(parts.vector("router.weight").gradient),
      starts_(static_cast<std::size_t>(n_experts_) + 1) {
  if (rule_ == kernels::router_rule::sigmoid) correction_ = parts.vector(correction_name).weight;
  for (std::int64_t e = 0; e < n_experts_; ++e) experts_.emplace_back(parts.within("experts." + std::to_string(e)), gated_);
  if (shared_hidden_ > 0) shared_.emplace(parts.within("shared_expert"), gated_);
}

template <class Act>
void moe_layer<Act>::place(std::int64_t batch, std::int64_t length, arena& kept, arena& shared) {
  const std::int64_t rows = batch * length, choices = rows * active_, most = kernels::slots_at_most(rows, n_experts_, active_);
  logits_ = kept.take<Act>(rows * n_experts_);
  weights_ = kept.take<real>(choices);
  chosen_ = kept.take<std::int32_t>(choices);
  place_ = kept.take<std::int32_t>(choices);
  source_ = kept.take<std::int32_t>(most);
  counts_ = kept.take<std::int32_t>(n_experts_);
  up_out_ = kept.take<Act>(most * up_width(hidden_));
  out_ = kept.take<Act>(most * d_);
  shared_up_out_ = kept.take<Act>(rows * up_width(shared_hidden_));
  sorted_ = shared.take<Act>(most * d_);
  activated_ = shared.take<Act>(most * hidden_);
  d_logits_ = shared.take<Act>(rows * n_experts_);
  d_weights_ = shared.take<real>(choices);
  shared_activated_ = shared.take<Act>(rows * shared_hidden_);
  d_shared_ = shared.take<Act>(shared_ ? rows * d_ : 0);
}

template <class Act>
template <class F>
void moe_layer<Act>::each_expert(const layer_pass<Act>& p, F f) const {
  for (std::size_t e = 0; e < experts_.size(); ++e)
    if (const std::int64_t rows = starts_[e + 1] - starts_[e]; rows > 0) f(experts_[e], starts_[e], over_rows(p, rows));
}

/// The choice, and room for its experts.
template <class Act>
void moe_layer<Act>::route(const layer_pass<Act>& p, const Act* x) {
  p.ops.linear(p.stream, {.w = router_.get(), .x = x, .y = logits_, .rows = p.rows(), .x_stride = d_, .y_stride = n_experts_});
  p.ops.route(p.stream, {.logits = logits_,
                         .correction = correction_,
                         .chosen = chosen_,
                         .weights = weights_,
                         .counts = counts_,
                         .place = place_,
                         .source = source_,
                         .starts = starts_.data(),
                         .rows = p.rows(),
                         .experts = n_experts_,
                         .active = active_,
                         .rule = rule_,
                         .scale = scale_});
}

template <class Act>
void moe_layer<Act>::dispatch(const layer_pass<Act>& p, const Act* x) {
  p.ops.dispatch(p.stream, {.x = x, .source = source_, .y = sorted_, .slots = slots(), .active = active_, .cols = d_});
}

template <class Act>
void moe_layer<Act>::activate(const layer_pass<Act>& p, const Act* up_out, Act* activated, std::int64_t rows, std::int64_t hidden) const {
  p.ops.activation(p.stream, {.x = up_out, .y = activated, .rows = rows, .hidden = hidden, .kind = activation_, .gated = gated_});
}

template <class Act>
void moe_layer<Act>::activate_backward(const layer_pass<Act>& p, Act* up_out, Act* activated, std::int64_t rows,
                                       std::int64_t hidden) const {
  p.ops.activation_backward(
      p.stream,
      {.x = up_out, .dy = activated, .dx = up_out, .y = activated, .rows = rows, .hidden = hidden, .kind = activation_, .gated = gated_});
}

template <class Act>
void moe_layer<Act>::forward(const layer_pass<Act>& p, const Act* x, Act* y) {
  route(p, x);
  dispatch(p, x);
  each_expert(p, [&](const expert_mlp<Act>& e, std::int64_t s, const layer_pass<Act>& rows) {
    e.up().forward(rows, sorted_ + s * d_, up_out_ + s * up_width(hidden_));
  });
  activate(p, up_out_, activated_, slots(), hidden_);
  each_expert(p, [&](const expert_mlp<Act>& e, std::int64_t s, const layer_pass<Act>& rows) {
    e.down().forward(rows, activated_ + s * hidden_, out_ + s * d_);
  });
  if (shared_) {
    shared_->up().forward(p, x, shared_up_out_);
    activate(p, shared_up_out_, shared_activated_, p.rows(), shared_hidden_);
    shared_->down().forward(p, shared_activated_, y);
  }
  p.ops.combine(p.stream, {.x = out_,
                           .place = place_,
                           .weights = weights_,
                           .y = y,
                           .rows = p.rows(),
                           .active = active_,
                           .cols = d_,
                           .adds = shared_.has_value()});
}

template <class Act>
void moe_layer<Act>::backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  p.ops.combine_backward(p.stream, {.dy = dy,
                                    .x = out_,
                                    .source = source_,
                                    .weights = weights_,
                                    .dx = out_,
                                    .d_weights = d_weights_,
                                    .slots = slots(),
                                    .active = active_,
                                    .cols = d_});
  backward_experts(p, x);
  backward_router(p, x, dx);
  if (shared_) backward_shared(p, x, dy, dx);
  p.ops.combine(p.stream,
                {.x = out_, .place = place_, .weights = nullptr, .y = dx, .rows = p.rows(), .active = active_, .cols = d_, .adds = true});
}

/// out_ holds the gradient of the experts' outputs, and then that of their inputs.
template <class Act>
void moe_layer<Act>::backward_experts(const layer_pass<Act>& p, const Act* x) {
  each_expert(p, [&](const expert_mlp<Act>& e, std::int64_t s, const layer_pass<Act>& rows) {
    e.down().backward_input(rows, out_ + s * d_, activated_ + s * hidden_);
  });
  activate_backward(p, up_out_, activated_, slots(), hidden_);
  dispatch(p, x);
  each_expert(p, [&](const expert_mlp<Act>& e, std::int64_t s, const layer_pass<Act>& rows) {
    backward_weight(e.down(), rows, activated_ + s * hidden_, out_ + s * d_);
    backward_weight(e.up(), rows, sorted_ + s * d_, up_out_ + s * up_width(hidden_));
    e.up().backward_input(rows, up_out_ + s * up_width(hidden_), out_ + s * d_);
  });
}

/// dx grows.
template <class Act>
void moe_layer<Act>::backward_shared(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) {
  shared_->down().backward_input(p, dy, shared_activated_);
  activate_backward(p, shared_up_out_, shared_activated_, p.rows(), shared_hidden_);
  shared_->down().backward_weight(p, shared_activated_, dy);
  shared_->up().backward(p, x, shared_up_out_, d_shared_);
  p.ops.add(p.stream, {.x = d_shared_, .y = dx, .rows = p.rows(), .cols = d_, .x_stride = d_, .y_stride = d_});
}

/// Overwrites dx. The router's own losses come in here, in the mean over the tokens of a pass times their number.
template <class Act>
void moe_layer<Act>::backward_router(const layer_pass<Act>& p, const Act* x, Act* dx) {
  p.ops.route_backward(p.stream, {.logits = logits_,
                                  .chosen = chosen_,
                                  .weights = weights_,
                                  .counts = counts_,
                                  .d_weights = d_weights_,
                                  .d_logits = d_logits_,
                                  .rows = p.rows(),
                                  .experts = n_experts_,
                                  .active = active_,
                                  .rule = rule_,
                                  .scale = scale_,
                                  .balance = balance_ * p.loss_scale,
                                  .z = z_loss_ * p.loss_scale});
  p.ops.linear_backward_input(p.stream,
                              {.w = router_.get(), .dy = d_logits_, .dx = dx, .rows = p.rows(), .dy_stride = n_experts_, .dx_stride = d_});
  p.ops.linear_backward_weight(
      p.stream, {.w = router_.get(), .x = x, .dy = d_logits_, .dw = d_router_, .rows = p.rows(), .x_stride = d_, .dy_stride = n_experts_});
}

template <class Act>
void moe_layer<Act>::weights_changed() {
  router_->weights_changed();
  for (auto& e : experts_) e.weights_changed();
  if (shared_) shared_->weights_changed();
}

namespace {

constexpr std::array<std::string_view, 3> rules{"softmax", "softmax_all", "sigmoid"};         // in the order of router_rule
constexpr std::array<std::string_view, 4> activations{"silu", "gelu", "gelu_tanh", "relu2"};  // in that of activation_kind
constexpr option_field options[] = {
    integer_option("moe_experts", 8, 1, 4096, "experts of a mixture"),
    integer_option("moe_active", 2, 1, 1024, "experts that a token passes"),
    integer_option("moe_hidden", 704, 16, 262144, "hidden width of an expert"),
    integer_option("moe_shared_hidden", 0, 0, 262144, "hidden width of the expert that all tokens pass; 0: none"),
    word_option("moe_activation", activations, "the function of an expert's hidden channels"),
    flag_option("moe_gated", true, "whether an expert multiplies them by a second projection"),
    word_option("moe_router", rules, "weights of the chosen: softmax over them, over all experts, or sigmoids that add up to 1"),
    real_option("moe_scale", 1, 1e-6, 1e6, "factor of the weights of the chosen"),
    real_option("moe_balance", 0.01, 0, 1e3, "coefficient of the loss for balance among experts"),
    real_option("moe_z_loss", 0, 0, 1e3, "coefficient of the loss that keeps the router's logits small"),
};

expected<void> check(const layer_shape& s) {
  if (s.integer("moe_active") > s.integer("moe_experts")) return bad_option(s, "moe_active", "a token has at most moe_experts");
  return {};
}

void declare_mlp(const std::string& prefix, std::int64_t d, std::int64_t hidden, bool gated, tensor_list& tensors) {
  if (gated) tensors.add_matrix(prefix + "gate_proj.weight", hidden, d);
  tensors.add_matrix(prefix + "up_proj.weight", hidden, d);
  tensors.add_output(prefix + "down_proj.weight", d, hidden);
}

void declare(const layer_shape& s, tensor_list& tensors) {
  const std::int64_t d = s.d_model, experts = s.integer("moe_experts"), shared = s.integer("moe_shared_hidden");
  tensors.add_matrix("router.weight", experts, d);
  // Adjusted from outside, if at all: choosing has no gradient.
  if (s.word("moe_router") == "sigmoid") tensors.add_vector(correction_name, experts, constant_values(0));
  const bool gated = s.flag("moe_gated");
  for (std::int64_t e = 0; e < experts; ++e) declare_mlp("experts." + std::to_string(e) + ".", d, s.integer("moe_hidden"), gated, tensors);
  if (shared > 0) declare_mlp("shared_expert.", d, shared, gated, tensors);
}

}  // namespace

extern const layer_kind moe_kind;
const layer_kind moe_kind{.name = "moe",
                          .title = "mixture of experts",
                          .folder = "feed_forward",
                          .mixes_sequence = false,
                          .options = options,
                          .check = check,
                          .declare = declare,
                          .make_f32 = make_layer<moe_layer, float>,
                          .make_b16 = make_layer<moe_layer, kernels::bf16>,
                          .make_f64 = make_layer<moe_layer, double>};

template class moe_layer<float>;
template class moe_layer<kernels::bf16>;
template class moe_layer<double>;

}  // namespace isthmus
