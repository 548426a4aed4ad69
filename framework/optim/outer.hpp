#pragma once

#include "framework/codecs/codec.hpp"
#include "framework/core/expected.hpp"
#include "framework/core/parameter_layout.hpp"

#include <cstddef>
#include <span>

namespace isthmus {

enum class outer_kind {
  nesterov,  // DiLoCo, arXiv:2311.08105: SGD with Nesterov momentum in PyTorch's form, lr 0.7, momentum 0.9
  plain,     // SparseLoCo, arXiv:2508.15706: theta -= lr * mean, lr 1; error feedback plays momentum's part
};

/// The outer optimizer, which every site applies to the anchor by itself. A change is theta_start - theta_local, so it is subtracted.
struct outer_rule {
  outer_kind kind = outer_kind::nesterov;
  float lr = 0.7F, momentum = 0.9F;
  bool has_momentum() const { return kind == outer_kind::nesterov; }
};

/// One outer step. sum: the reduced contribution, weight: what it is divided by, 2^-30 to 2^60. Each line rounded to fp32, in this order,
/// with w = float(weight):
///   g = sum[i] / w
///   plain:    anchor[i] = anchor[i] - lr * g
///   nesterov: b[i] = momentum * b[i] + g;  anchor[i] = anchor[i] - lr * (g + momentum * b[i])
/// anchor, sum, momentum: [group.size]; momentum may be empty for a rule without one.
void apply_outer(const outer_rule& rule, const group_shape& group, std::span<const float> sum, double weight, std::span<float> anchor,
                 std::span<float> momentum);

/// The same from the delta's bytes, with the same bits: a sparse frame under the plain rule touches only what it names.
/// On an error (the codec's; out_of_range for the weight) nothing is changed.
expected<void> apply_outer(const outer_rule& rule, const group_shape& group, const codec& down, std::span<const std::byte> frame,
                           double weight, std::span<float> anchor, std::span<float> momentum);

}  // namespace isthmus
