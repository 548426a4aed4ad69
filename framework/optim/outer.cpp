#include "framework/optim/outer.hpp"

#include <fmt/format.h>

#include <vector>

namespace isthmus {

namespace {

/// Within these no quotient of a delta's numbers overflows.
constexpr float weight_min = 0x1p-30F, weight_max = 0x1p60F;
bool good_weight(double weight) { return static_cast<float>(weight) >= weight_min && static_cast<float>(weight) <= weight_max; }

void step_plain(const outer_rule& rule, float w, std::size_t n, const float* __restrict sum, float* __restrict anchor) {
  const float lr = rule.lr;
  for (std::size_t i = 0; i < n; ++i) {
    const float g = sum[i] / w;
    anchor[i] -= lr * g;
  }
}

void step_nesterov(const outer_rule& rule, float w, std::size_t n, const float* __restrict sum, float* __restrict anchor,
                   float* __restrict momentum) {
  const float lr = rule.lr, mu = rule.momentum;
  for (std::size_t i = 0; i < n; ++i) {
    const float g = sum[i] / w;
    const float b = mu * momentum[i] + g;
    momentum[i] = b;
    anchor[i] -= lr * (g + mu * b);
  }
}

/// Applies a frame as it is decoded.
class apply_sink final : public frame_sink {
public:
  apply_sink(const outer_rule& rule, float w, std::span<float> anchor) : rule_(rule), w_(w), anchor_(anchor) {}
  void dense(std::int64_t offset, std::span<const float> values) override {
    step_plain(rule_, w_, values.size(), values.data(), anchor_.data() + offset);
  }
  void sparse(std::int64_t base, std::span<const std::uint16_t> index, std::span<const float> values) override {
    float* anchor = anchor_.data() + base;
    for (std::size_t i = 0; i < index.size(); ++i) {
      const float g = values[i] / w_;
      anchor[index[i]] -= rule_.lr * g;
    }
  }

private:
  outer_rule rule_;
  float w_;
  std::span<float> anchor_;
};

void check_spans(const outer_rule& rule, const group_shape& group, std::span<float> anchor, std::span<float> momentum) {
  const auto size = static_cast<std::size_t>(group.size);
  ensure(anchor.size() == size, "apply_outer: the anchor has not the size of the group");
  ensure(!rule.has_momentum() || momentum.size() == size, "apply_outer: the momentum has not the size of the group");
}

}  // namespace

void apply_outer(const outer_rule& rule, const group_shape& group, std::span<const float> sum, double weight, std::span<float> anchor,
                 std::span<float> momentum) {
  check_spans(rule, group, anchor, momentum);
  ensure(sum.size() == anchor.size(), "apply_outer: the sum has not the size of the group");
  ensure(good_weight(weight), "apply_outer: the weight is not between 2^-30 and 2^60");
  const auto w = static_cast<float>(weight);
  if (rule.kind == outer_kind::plain) return step_plain(rule, w, sum.size(), sum.data(), anchor.data());
  step_nesterov(rule, w, sum.size(), sum.data(), anchor.data(), momentum.data());
}

expected<void> apply_outer(const outer_rule& rule, const group_shape& group, const codec& down, std::span<const std::byte> frame,
                           double weight, std::span<float> anchor, std::span<float> momentum) {
  check_spans(rule, group, anchor, momentum);
  if (!good_weight(weight)) {
    return fail(errc::out_of_range, fmt::format("outer step of group {}: weight {}, allowed are 2^-30 to 2^60", group.id, weight));
  }
  const auto w = static_cast<float>(weight);
  if (rule.kind == outer_kind::plain) {
    apply_sink sink(rule, w, anchor);
    return down.decode(group, frame, sink);
  }
  // Momentum moves every element, named or not.
  std::vector<float> sum(static_cast<std::size_t>(group.size));
  if (auto ok = down.add_to(group, frame, sum); !ok) return ok;
  step_nesterov(rule, w, sum.size(), sum.data(), anchor.data(), momentum.data());
  return {};
}

}  // namespace isthmus
