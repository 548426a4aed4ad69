#pragma once

#include "framework/codecs/codec.hpp"
#include "framework/core/rng.hpp"

#include <vector>

namespace isthmus {

/// A group like a small model's: matrices with and without tails, small tensors, one tensor of exactly one chunk.
inline group_shape make_test_group() {
  parameter_layout layout;
  layout.add("a", {100, 130}, true);  // three chunks and a tail
  layout.add("b", {77}, false);
  layout.add("c", {4096}, true);
  layout.add("d", {1}, false);
  layout.add("e", {64, 128}, true);  // two chunks, no tail
  return cut_groups(layout, 1).at(0);
}

/// Normal numbers in the tensors of a group, zeros in the gaps.
inline std::vector<float> random_values(const group_shape& group, std::uint64_t seed, double scale = 1e-3) {
  std::vector<float> values(static_cast<std::size_t>(group.size));
  rng draw_from(seed, 0, 0, draw::probe);
  for (const auto& tensor : group.tensors) {
    for (std::int64_t i = 0; i < tensor.count; ++i) {
      values[static_cast<std::size_t>(tensor.offset + i)] = static_cast<float>(scale * draw_from.normal());
    }
  }
  return values;
}

}  // namespace isthmus
