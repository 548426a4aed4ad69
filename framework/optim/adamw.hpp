#pragma once

#include "framework/core/buffer.hpp"
#include "framework/core/parameter_layout.hpp"
#include "kernels/backend.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace isthmus {

struct adamw_options {
  float beta1 = 0.9F, beta2 = 0.95F, eps = 1e-8F;
  float weight_decay = 0.1F;  // decoupled, on the slots that decay
  double clip_norm = 1.0;     // of the whole gradient; 0: no clipping
};

/// What a gradient of this squared norm is multiplied with: min(1, clip_norm / norm). Not finite when the norm is not.
float clip_scale(double squared_norm, double clip_norm);

/// AdamW over a flat array: Loshchilov & Hutter 2017, arXiv:1711.05101. Owns the moments. Several devices may share one step by
/// updating disjoint slices, each through its own stream; the bits do not depend on how the array is cut.
class adamw {
public:
  /// Copies what it needs of the layout.
  adamw(const parameter_layout& layout, const adamw_options& options);

  /// The whole step at once: clips by the global norm, updates, clears the gradients. Gives the norm before clipping, in fp64.
  /// When it is not finite nothing is updated, gradients stay and the step does not count.
  double step(const kernels::backend& backend, kernels::stream& stream, std::span<float> weights, std::span<float> gradients,
              double learning_rate);

  /// Or in parts: the squared norm of a slice; then for every slice update(); then once finish_step().
  static double squared_norm(const kernels::backend& backend, kernels::stream& stream, std::span<const float> gradients);
  /// Updates [begin, end) of weights and moments by gradients * gradient_scale and, if asked, zeroes those gradients.
  /// step: this step's number, 1 for the first. weights, gradients: the whole arrays. Slices that do not meet may be updated by different threads at once.
  void update(const kernels::backend& backend, kernels::stream& stream, std::span<float> weights, std::span<float> gradients,
              std::int64_t begin, std::int64_t end, double learning_rate, float gradient_scale, bool clear_gradients, std::int64_t step);
  void finish_step() { ++steps_; }

  /// For checkpoints: moments in the layout's order, and how many steps made them (their version).
  std::span<float> first() { return first_.span(); }
  std::span<float> second() { return second_.span(); }
  std::int64_t steps() const { return steps_; }
  void restore_steps(std::int64_t steps) { steps_ = steps; }

private:
  adamw_options options_;
  std::vector<kernels::decay_extent> extents_;  // the whole array, gaps excluded
  float_array first_, second_;
  std::int64_t steps_ = 0;
};

}  // namespace isthmus
