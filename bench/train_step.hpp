#pragma once

#include "framework/models/hybrid_model.hpp"
#include "framework/optim/adamw.hpp"
#include "kernels/team.hpp"

#include <string>
#include <vector>

namespace isthmus::bench {

/// A model of the comparison: width, depth and a pattern ("a": attention in every layer, "a2": attention and Mamba-2 in turn, "e": attention
/// and a mixture of 8 experts, 2 of them active).
struct train_shape {
  std::int64_t d_model, layers, context, tokens, vocabulary;
  std::string pattern;
  precision_kind precision;
};

model_config config_of(const train_shape& shape);
std::int64_t attention_layers(const train_shape& shape);

/// Whole training steps on random tokens: forward, backward, AdamW.
class train_step {
public:
  train_step(const train_shape& shape, kernels::team& team);
  /// Gives the mean loss in nats.
  double run();
  std::int64_t parameters() const { return model_.layout().parameter_count(); }
  /// Without the experts that a token does not pass.
  std::int64_t active_parameters() const;
  /// 6 x active parameters + 6 x attention layers x d x context a token: forward and backward, of attention what is below the diagonal.
  double model_flop() const;

private:
  train_shape shape_;
  hybrid_model model_;
  adamw optimizer_;
  std::vector<std::int32_t> ids_;
};

}  // namespace isthmus::bench
