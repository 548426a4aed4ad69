#pragma once

#include "framework/core/buffer.hpp"
#include "framework/core/expected.hpp"
#include "framework/layers/inference_formats.hpp"
#include "framework/models/activation_plan.hpp"
#include "framework/models/config.hpp"
#include "framework/models/learner.hpp"
#include "framework/models/sequence_state.hpp"
#include "kernels/backend.hpp"

#include <cstdint>
#include <memory>
#include <span>

namespace isthmus {

template <class Real>
class network;

/// Says what is wrong with a model's extents: recipe_invalid, naming the key, what was found and what is allowed.
expected<void> check(const model_config& config);

/// Whether a token's logits depend on later tokens, or the model is an encoder: it neither decodes nor learns to predict what comes next.
bool sees_ahead(const model_config& config);

/// Where the tensors lie, named as Hugging Face's Bamba names them (docs/model.md).
parameter_layout hybrid_layout(const model_config& config);

/// Fills weights [hybrid_layout(config).size]: the same for the same (config, seed) at every site. Matrices uniform within
/// +-1/sqrt(fan in), those that write to the residual stream divided by sqrt(2 layers); embeddings normal, deviation 0.02; Mamba-2's own
/// parameters as in its paper (docs/model.md).
void initial_weights(const model_config& config, std::uint64_t seed, std::span<float> weights);

/// The hybrid language model of config.hpp on one device: a learner, and a decoder. Weights, gradients and activations lie in huge
/// pages; a step with the shape of the one before allocates nothing. Used by one thread at a time.
class hybrid_model final : public learner {
public:
  /// Borrows backend and team, which outlive it. Weights start at zero: copy some in, or use initial_weights. A batch is worked
  /// through in pieces of whole rows of at most tokens_at_once tokens (one row if that is longer), which bounds the memory.
  /// Throws contract_error if check(config) fails.
  hybrid_model(const model_config& config, const kernels::backend& backend, kernels::team& team, std::int64_t tokens_at_once = 2048);
  /// The same on given arrays, [hybrid_layout(config).size] each: weights that several models (the devices of a site) share, and zeroed
  /// gradients that others read. Both live as long as anybody holds them.
  hybrid_model(const model_config& config, const kernels::backend& backend, kernels::team& team, std::int64_t tokens_at_once,
               std::shared_ptr<float_array> weights, std::shared_ptr<float_array> gradients);
  /// For inference: reads the weights through their format (a copy that it makes when it first reads them, of fp32 ones where the CPU
  /// likes another order), and has no gradients. advance() reads projections and head so, evaluate() the projections alone, its head being
  /// the master's. A sequence's state is of its caches' format: it goes on in models of the same alone.
  hybrid_model(const model_config& config, const kernels::backend& backend, kernels::team& team, const inference_formats& formats,
               std::shared_ptr<float_array> weights, std::int64_t tokens_at_once = 2048);
  ~hybrid_model() override;

  const model_config& config() const { return config_; }
  const parameter_layout& layout() const override { return layout_; }
  std::span<float> weights() override { return weights_->span(); }
  std::span<const float> weights() const { return std::as_const(*weights_).span(); }
  /// Throws contract_error for a model for inference; so does accumulate().
  std::span<float> gradients() override;
  void weights_changed() override;
  double accumulate(const token_batch& batch, double scale) override;
  double evaluate(const token_batch& batch) override;

  /// How batches of up to `rows` rows go through: docs/model.md. Throws contract_error when a row does not fit config().activation_mib.
  activation_plan plan(std::int64_t rows, std::int64_t context);

  /// The state before the first token.
  sequence_state start() const;
  /// Feeds ids (at least one; ids out of range throw contract_error) and moves the state on: many at once to read a prompt, one to
  /// decode. Gives the logits that follow the last one, or each of the last `last` ones, [last, vocabulary]; valid until the next call of any
  /// member. Throws contract_error when the model sees ahead.
  std::span<const float> advance(sequence_state& state, std::span<const std::int32_t> ids, std::int64_t last = 1);
  /// The same for several sequences at once, each with its own state: weights are read once for all of them. Some may read a prompt while
  /// others decode. Gives [sum of last, vocabulary]. Throws contract_error for none, or a state that is there twice.
  std::span<const float> advance(std::span<const sequence_input> sequences);
  /// What the Medusa heads say after id `row` of those that the last call of advance read, and no other call has followed but of this
  /// member: [config().medusa_heads, vocabulary], head k's of the token k + 2 after that id.
  std::span<const float> head_logits(std::int64_t row);

  /// The logits at some places of a whole text, [places, vocabulary]: what masked tokens are, by a model that sees ahead. Valid until the next
  /// call of any member. Throws contract_error for ids or places out of range, and for a text that is longer than an encoder's positions.
  std::span<const float> predict(std::span<const std::int32_t> ids, std::span<const std::int64_t> places);

  /// Where its kernels run, for whoever updates the weights.
  kernels::stream& stream() { return *stream_; }
  const kernels::backend& backend() const { return backend_; }

private:
  model_config config_;
  const kernels::backend& backend_;
  parameter_layout layout_;
  std::shared_ptr<float_array> weights_, gradients_;
  std::unique_ptr<kernels::stream> stream_;
  std::unique_ptr<network<float>> network_;
};

}  // namespace isthmus
