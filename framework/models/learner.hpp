#pragma once

#include "framework/core/parameter_layout.hpp"

#include <cstdint>
#include <span>

namespace isthmus {

constexpr std::int32_t no_target = -1;

/// Rows of token ids to learn from: row r holds context + 1 ids, its first `context` are inputs, its last `context` are targets. With targets of
/// their own, rows hold their inputs alone, and those whose target is `no_target` count nothing: prompts that are not to be learnt, masked tokens.
struct token_batch {
  std::span<const std::int32_t> ids;  // [rows, context + 1]; [rows, context] with targets
  std::int64_t rows = 0, context = 0;
  std::span<const std::int32_t> targets = {};  // [rows, context], or empty
  std::int64_t tokens() const { return rows * context; }
  std::int64_t width() const { return targets.empty() ? context + 1 : context; }  // ids in a row
};

/// The arithmetic of one device: a model whose weights and gradients lie in flat fp32 arrays that it is given and shares. The device
/// actor owns it and knows no more of the model than this; a simulation gives a small one.
class learner {
public:
  virtual ~learner() = default;
  virtual const parameter_layout& layout() const = 0;
  /// Master weights, [layout().size]. Whoever writes them calls weights_changed() before the next pass.
  virtual std::span<float> weights() = 0;
  /// Gradients of the same layout; gaps stay zero.
  virtual std::span<float> gradients() = 0;
  /// Drops packed or low-precision copies that derive from the weights.
  virtual void weights_changed() = 0;
  /// Forward and backward: adds to gradients() the gradient of (sum of the token losses) * scale; gives the sum of the losses in nats.
  /// Ids out of range throw contract_error.
  virtual double accumulate(const token_batch& batch, double scale) = 0;
  /// Forward only: the sum of the token losses in nats.
  virtual double evaluate(const token_batch& batch) = 0;
};

}  // namespace isthmus
