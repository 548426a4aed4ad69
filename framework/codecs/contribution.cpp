#include "framework/codecs/contribution.hpp"

#include "framework/codecs/frame.hpp"
#include "framework/codecs/vector_ops.hpp"
#include "framework/core/probe.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace isthmus {

namespace {

constexpr float working_limit = 0x1p40F;
constexpr float weight_limit = 0x1p20F;

expected<void> check_working(const group_shape& group, std::span<const float> working) {
  for (std::size_t t = 0; t < group.tensors.size(); ++t) {
    const auto& tensor = group.tensors[t];
    const auto count = static_cast<std::size_t>(tensor.count);
    const std::uint32_t largest = vector_ops::max_magnitude(working.data() + tensor.offset, count);
    if (largest <= magnitude(working_limit)) continue;
    return fail(errc::not_finite, fmt::format("contribution: tensor {} of group {} ({} elements from {}) holds a weight of magnitude {}; "
                                              "the training of this site diverged: lower the learning rate or the clip",
                                              t, group.id, tensor.count, group.offset + tensor.offset, std::bit_cast<float>(largest)));
  }
  return {};
}

}  // namespace

float contribution_terms::weight() const {
  ensure(reference_tokens > 0, "contribution: reference_tokens is 0");
  return static_cast<float>(static_cast<double>(tokens) / static_cast<double>(reference_tokens));
}

expected<contribution_mass> form_contribution(const group_shape& group, const contribution_terms& terms, std::span<const float> anchor,
                                              std::span<const float> working, std::span<float> value, std::uint64_t probe_key) {
  const auto size = static_cast<std::size_t>(group.size);
  ensure(anchor.size() == size && working.size() == size && value.size() == size, "form_contribution: a span has not the group's size");
  const float weight = terms.weight();
  ensure(weight <= weight_limit, "form_contribution: more than 2^20 times the reference tokens");
  if (auto ok = check_working(group, working); !ok) return ok.failure();
  block_probes sums;
  const std::size_t blocks = size / 64, rest = size % 64;
  vector_ops::form_blocks(anchor.data(), working.data(), value.data(), weight, terms.residual_decay, probe_key, 0, blocks, sums);
  if (rest > 0) {
    float a[64] = {}, w[64] = {}, v[64] = {};
    std::copy_n(anchor.data() + 64 * blocks, rest, a);
    std::copy_n(working.data() + 64 * blocks, rest, w);
    std::copy_n(value.data() + 64 * blocks, rest, v);
    vector_ops::form_blocks(a, w, v, weight, terms.residual_decay, probe_key, blocks, 1, sums);
    std::copy_n(v, rest, value.data() + 64 * blocks);
  }
  return contribution_mass{add_lanes(sums.change), add_lanes(sums.residual), add_lanes(sums.decayed), add_lanes(sums.value),
                           add_lanes(sums.squares)};
}

}  // namespace isthmus
