#pragma once

#include "framework/codecs/codec.hpp"
#include "framework/core/expected.hpp"
#include "framework/core/hash.hpp"
#include "framework/core/parameter_layout.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
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

/// The arrays that a step writes, and what it makes them from: the same arrays (a member moves on) or others (a home that keeps the
/// old ones until the record is committed).
struct outer_arrays {
  std::span<const float> old_anchor, old_momentum;
  std::span<float> anchor, momentum;
  outer_arrays(std::span<float> anchor_in_place, std::span<float> momentum_in_place)
      : outer_arrays(anchor_in_place, momentum_in_place, anchor_in_place, momentum_in_place) {}
  outer_arrays(std::span<const float> from, std::span<const float> from_momentum, std::span<float> to, std::span<float> to_momentum)
      : old_anchor(from), old_momentum(from_momentum), anchor(to), momentum(to_momentum) {}
};

/// What was found on the way of a step.
struct outer_outcome {
  hash128 anchor_hash;  // of the new anchor, as hash_floats gives it
  double mass = 0;      // where asked for: the probe of the decoded delta
};

/// The same from the delta's bytes, with the same bits, in one pass: blocks of 4096 elements are decoded, stepped and hashed while they
/// are in the first cache. mass_key: asks for the probe of the delta with that key.
/// On an error (the codec's; out_of_range for the weight) nothing is written.
expected<outer_outcome> apply_outer(const outer_rule& rule, const group_shape& group, const codec& down, std::span<const std::byte> frame,
                                    double weight, const outer_arrays& arrays, std::optional<std::uint64_t> mass_key = {});

}  // namespace isthmus
