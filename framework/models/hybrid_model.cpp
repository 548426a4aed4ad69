#include "framework/models/hybrid_model.hpp"

#include "framework/core/error.hpp"
#include "framework/models/network.hpp"

namespace isthmus {

namespace {

model_config checked(const model_config& config) {
  const auto ok = check(config);
  if (!ok) throw contract_error(ok.error().message);
  return config;
}

std::shared_ptr<float_array> zeroed_array(const model_config& config) {
  return std::make_shared<float_array>(static_cast<std::size_t>(hybrid_layout(checked(config)).size));
}

template <class Act>
std::unique_ptr<network<float>> make_network(const model_config& config, const parameter_layout& layout, const kernels::backend& backend,
                                             kernels::stream& stream, const float* weights, float* gradients, std::int64_t tokens_at_once,
                                             const inference_formats& formats) {
  return std::make_unique<hybrid_network<Act>>(config, layout, kernels::ops_of<Act>(backend), backend.f32, stream, weights, gradients,
                                               tokens_at_once, formats);
}

}  // namespace

hybrid_model::hybrid_model(const model_config& config, const kernels::backend& backend, kernels::team& team, std::int64_t tokens_at_once)
    : hybrid_model(config, backend, team, tokens_at_once, zeroed_array(config), zeroed_array(config)) {}

hybrid_model::hybrid_model(const model_config& config, const kernels::backend& backend, kernels::team& team, std::int64_t tokens_at_once,
                           std::shared_ptr<float_array> weights, std::shared_ptr<float_array> gradients)
    : config_(checked(config)),
      backend_(backend),
      layout_(hybrid_layout(config)),
      weights_(std::move(weights)),
      gradients_(std::move(gradients)),
      stream_(backend.make_stream(team)) {
  const auto size = static_cast<std::size_t>(layout_.size);
  ensure(weights_->size() == size && gradients_->size() == size, "hybrid_model: weights or gradients of another layout");
  const auto make = config.precision == precision_kind::bf16 ? make_network<kernels::bf16> : make_network<float>;
  network_ = make(config_, layout_, backend_, *stream_, weights_->data(), gradients_->data(), tokens_at_once, {});
}

hybrid_model::hybrid_model(const model_config& config, const kernels::backend& backend, kernels::team& team,
                           const inference_formats& formats, std::shared_ptr<float_array> weights, std::int64_t tokens_at_once)
    : config_(checked(config)),
      backend_(backend),
      layout_(hybrid_layout(config)),
      weights_(std::move(weights)),
      stream_(backend.make_stream(team)) {
  ensure(weights_->size() == static_cast<std::size_t>(layout_.size), "hybrid_model: weights of another layout");
  const auto make = config.precision == precision_kind::bf16 ? make_network<kernels::bf16> : make_network<float>;
  network_ = make(config_, layout_, backend_, *stream_, weights_->data(), nullptr, tokens_at_once, formats);
}

hybrid_model::~hybrid_model() = default;

void hybrid_model::weights_changed() { network_->weights_changed(); }

std::span<float> hybrid_model::gradients() {
  ensure(gradients_ != nullptr, "hybrid_model: a model for inference has no gradients");
  return gradients_->span();
}

double hybrid_model::accumulate(const token_batch& batch, double scale) {
  ensure(gradients_ != nullptr, "hybrid_model: a model for inference does not train");
  return network_->run(batch, scale, true);
}

double hybrid_model::evaluate(const token_batch& batch) { return network_->run(batch, 0, false); }

activation_plan hybrid_model::plan(std::int64_t rows, std::int64_t context) { return network_->plan(rows, context); }

sequence_state hybrid_model::start() const { return network_->start(); }

std::span<const float> hybrid_model::advance(sequence_state& state, std::span<const std::int32_t> ids, std::int64_t last) {
  const sequence_input alone{&state, ids, last};
  return network_->advance({&alone, 1});
}

std::span<const float> hybrid_model::advance(std::span<const sequence_input> sequences) {
  ensure(!sequences.empty(), "model: no sequences to move on");
  for (std::size_t i = 1; i < sequences.size(); ++i)
    for (std::size_t k = 0; k < i; ++k) ensure(sequences[i].state != sequences[k].state, "model: a state is there twice");
  return network_->advance(sequences);
}

std::span<const float> hybrid_model::predict(std::span<const std::int32_t> ids, std::span<const std::int64_t> places) {
  return network_->predict(ids, places);
}

std::span<const float> hybrid_model::head_logits(std::int64_t row) { return network_->head_logits(row); }

}  // namespace isthmus
