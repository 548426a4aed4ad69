#pragma once

#include "framework/models/hybrid_model.hpp"

#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <vector>

namespace isthmus {

struct generate_options {
  std::int64_t tokens_max = 128;  // new tokens
  float temperature = 0.8F;       // 0: always the most likely
  std::int64_t top_k = 0;         // keep the k most likely; 0: all
  float top_p = 1;                // then the fewest most likely whose probabilities sum to at least this; in (0, 1]
  std::uint64_t seed = 0;         // the same seed, weights and prompt give the same tokens
  std::int32_t stop_id = -1;      // ends, and is given as the last token; -1: never
};

/// A model whose logits are not finite: nothing can be drawn from them. Weights that a checkpoint holds are finite; their products may not be.
class not_finite_error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// One draw. logits: [vocabulary]; u in [0, 1). Ties go to the lower id. A token whose logit is minus infinity is never drawn; a NaN, an
/// infinity, and no token that may be drawn throw not_finite_error.
std::int32_t sample(std::span<const float> logits, const generate_options& options, double u);

/// Continues a prompt of at least one id. on_token hears each new id at once and ends it by returning false. Gives the new ids.
/// Throws not_finite_error, as generate_by_heads does.
std::vector<std::int32_t> generate(hybrid_model& model, std::span<const std::int32_t> prompt, const generate_options& options,
                                   const std::function<bool(std::int32_t)>& on_token = {});

}  // namespace isthmus
