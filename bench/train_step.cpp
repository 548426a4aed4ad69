#include "bench/train_step.hpp"

#include "framework/core/rng.hpp"
#include "kernels/select.hpp"

#include <algorithm>
#include <cmath>

namespace isthmus::bench {

namespace {
constexpr std::int64_t head_dim = 64;
constexpr double learning_rate = 3e-4;
}  // namespace

model_config config_of(const train_shape& shape) {
  model_config c;
  c.vocabulary = shape.vocabulary;
  c.d_model = shape.d_model;
  for (std::int64_t i = 0; i < shape.layers; ++i) {
    const char mixer = shape.pattern[static_cast<std::size_t>(i) % shape.pattern.size()];
    c.layers.emplace_back(mixer == 'a'   ? "attention"
                          : mixer == 'e' ? "attention/moe"
                          : mixer == '1' ? "mamba1"
                          : mixer == 'h' ? "hyena"
                                         : "mamba2");
  }
  const auto d = static_cast<double>(shape.d_model), heads = static_cast<double>(shape.d_model / head_dim);
  c.options = {
      {"n_heads", heads},   {"n_kv_heads", heads},      {"head_dim", head_dim}, {"ffn_hidden", std::floor((8 * d / 3 + 63) / 64) * 64},
      {"ssm_inner", 2 * d}, {"ssm_head_dim", head_dim}, {"ssm_state", 64},      {"ssm_groups", 1},
      {"conv_width", 4},    {"ssm_chunk", 64}};
  // Two active experts do the work of the dense channel mixer.
  c.options["moe_experts"] = 8;
  c.options["moe_hidden"] = c.options["ffn_hidden"] / 2;
  c.precision = shape.precision;
  return c;
}

std::int64_t attention_layers(const train_shape& shape) {
  const auto layers = config_of(shape).layers;
  return std::count_if(layers.begin(), layers.end(), [](const std::string& name) { return name.starts_with("attention"); });
}

train_step::train_step(const train_shape& shape, kernels::team& team)
    : shape_(shape), model_(config_of(shape), kernels::default_backend(), team, shape.tokens), optimizer_(model_.layout(), {}) {
  initial_weights(model_.config(), 1, model_.weights());
  model_.weights_changed();
  rng random(1, 0, 0, draw::sample_order);
  const std::int64_t rows = std::max<std::int64_t>(1, shape.tokens / shape.context);
  for (std::int64_t i = 0; i < rows * (shape.context + 1); ++i)
    ids_.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(shape.vocabulary))));
}

double train_step::run() {
  const token_batch batch{ids_, static_cast<std::int64_t>(ids_.size()) / (shape_.context + 1), shape_.context};
  const double scale = 1.0 / static_cast<double>(batch.tokens());
  const double loss = model_.accumulate(batch, scale) * scale;
  optimizer_.step(model_.backend(), model_.stream(), model_.weights(), model_.gradients(), learning_rate);
  model_.weights_changed();
  return loss;
}

std::int64_t train_step::active_parameters() const {
  const auto& config = model_.config();
  const std::int64_t experts = config.extent("moe_experts");
  std::int64_t sleeping = 0;
  for (const auto& slot : model_.layout().slots)
    if (slot.name.find(".experts.") != std::string::npos) sleeping += slot.count * (experts - config.extent("moe_active")) / experts;
  return parameters() - sleeping;
}

double train_step::model_flop() const {
  const double a_token = 6.0 * static_cast<double>(active_parameters()) +
                         6.0 * static_cast<double>(attention_layers(shape_) * shape_.d_model * shape_.context);
  return a_token * static_cast<double>(std::max<std::int64_t>(1, shape_.tokens / shape_.context) * shape_.context);
}

}  // namespace isthmus::bench
