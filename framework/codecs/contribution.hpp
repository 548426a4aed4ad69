#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/parameter_layout.hpp"

#include <cstdint>
#include <span>

namespace isthmus {

/// What a contribution weighs.
struct contribution_terms {
  std::uint64_t tokens = 0;            // trained since the last committed contribution to this group
  std::uint64_t reference_tokens = 1;  // of the recipe, > 0
  float residual_decay = 1;            // beta of SparseLoCo (arXiv:2508.15706) 0.95; 1 keeps all
  /// tokens / reference_tokens, in fp64, then rounded to fp32.
  float weight() const;
};

/// Probes (framework/core/probe.hpp) of what went into a contribution: change + residual = value + decayed, up to the fp32
/// rounding of each element.
struct contribution_mass {
  double change = 0;    // weight * (anchor - working)
  double residual = 0;  // the residual before
  double decayed = 0;   // its part that the decay took away
  double value = 0;     // the contribution: what goes to the encoder
  double squares = 0;   // of it: the sum of its squares
};

/// The contribution of one group, formed in place of its residual: with w = terms.weight() and b = residual_decay, each step
/// rounded to fp32, value[i] := w * (anchor[i] - working[i]) + b * value[i]. All spans: [group.size].
/// errc::not_finite names the first tensor whose working weights are not finite or beyond 2^40; value is then untouched.
expected<contribution_mass> form_contribution(const group_shape& group, const contribution_terms& terms, std::span<const float> anchor,
                                              std::span<const float> working, std::span<float> value, std::uint64_t probe_key);

}  // namespace isthmus
