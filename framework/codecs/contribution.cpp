#include "framework/codecs/contribution.hpp"

#include "framework/codecs/frame.hpp"
#include "framework/codecs/vector_ops.hpp"
#include "framework/core/probe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace isthmus {

namespace {

constexpr float working_limit = 0x1p40F;
constexpr float weight_limit = 0x1p20F;

/// What no training does in a round. An outer step behind momentum moves an anchor by several such changes, which leaves it far below
/// working_limit: one flipped bit that passes for a number does not make the contributions of all sites fail from then on.
constexpr float change_limit = 0x1p20F;

float largest_change(std::span<const float> anchor, std::span<const float> working) {
  float largest = 0;
  for (std::size_t i = 0; i < working.size(); ++i) largest = std::max(largest, std::abs(working[i] - anchor[i]));
  return largest;
}

expected<void> check_working(const group_shape& group, std::span<const float> anchor, std::span<const float> working) {
  for (std::size_t t = 0; t < group.tensors.size(); ++t) {
    const auto& tensor = group.tensors[t];
    const auto begin = static_cast<std::size_t>(tensor.offset), count = static_cast<std::size_t>(tensor.count);
    const std::uint32_t largest = vector_ops::max_magnitude(working.data() + begin, count);
    if (largest <= magnitude(change_limit / 2)) continue;  // where the anchor is as small, so is the change
    const float size = std::bit_cast<float>(largest), change = largest_change(anchor.subspan(begin, count), working.subspan(begin, count));
    const bool grown = !(size <= working_limit);
    if (!grown && change <= change_limit) continue;
    return fail(errc::not_finite, fmt::format("contribution: tensor {} of group {} ({} elements from {}) {} {}; the training of this site "
                                              "diverged: lower the learning rate or the clip",
                                              t, group.id, tensor.count, group.offset + tensor.offset,
                                              grown ? "holds a weight of magnitude" : "was moved in one round by", grown ? size : change));
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
  if (auto ok = check_working(group, anchor, working); !ok) return ok.failure();
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
