#include "framework/optim/outer.hpp"

#include "framework/core/probe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

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

/// Steps n elements in place.
void step(const outer_rule& rule, float w, std::size_t n, const float* sum, float* anchor, float* momentum) {
  if (rule.kind == outer_kind::plain)
    step_plain(rule, w, n, sum, anchor);
  else
    step_nesterov(rule, w, n, sum, anchor, momentum);
}

/// Takes a frame's numbers and steps block after block.
class block_step final : public frame_sink {
public:
  block_step(const outer_rule& rule, float w, const outer_arrays& arrays, std::optional<std::uint64_t> mass_key)
      : rule_(rule), w_(w), arrays_(arrays), mass_(mass_key.value_or(0)), with_mass_(mass_key.has_value()) {}

  void dense(std::int64_t offset, std::span<const float> values) override {
    for (auto at = static_cast<std::size_t>(offset); !values.empty();) {
      reach(at);
      const std::size_t n = std::min(values.size(), block_size - (at - begin_));
      for (std::size_t i = 0; i < n; ++i) sum_[at - begin_ + i] = values[i] + 0.0F;  // -0 is 0 in a sum
      named_ = true;
      values = values.subspan(n);
      at += n;
    }
  }

  void sparse(std::int64_t base, std::span<const std::uint16_t> index, std::span<const float> values) override {
    const auto first = static_cast<std::size_t>(base);
    for (std::size_t i = 0; i < index.size();) {
      reach(first + index[i]);
      const std::size_t end = begin_ + block_size;
      for (; i < index.size() && first + index[i] < end; ++i) sum_[first + index[i] - begin_] = values[i] + 0.0F;
      named_ = true;
    }
  }

  outer_outcome finish() {
    while (begin_ < arrays_.anchor.size()) end_block();
    return {hash_.digest(), mass_.total()};
  }

private:
  static constexpr std::size_t block_size = 4096;

  /// Ends blocks until the one under way holds element `at`.
  void reach(std::size_t at) {
    while (at >= begin_ + block_size) end_block();
  }

  void end_block() {
    const std::size_t n = std::min(block_size, arrays_.anchor.size() - begin_);
    const auto anchor = arrays_.anchor.subspan(begin_, n);
    const auto momentum = rule_.has_momentum() ? arrays_.momentum.subspan(begin_, n) : std::span<float>{};
    if (arrays_.old_anchor.data() != arrays_.anchor.data()) {
      std::copy_n(arrays_.old_anchor.data() + begin_, n, anchor.data());
      std::copy_n(arrays_.old_momentum.data() + begin_, momentum.size(), momentum.data());
    }
    if (named_ || rule_.has_momentum()) step(rule_, w_, n, sum_.data(), anchor.data(), momentum.data());  // momentum moves all elements
    if (named_) {
      if (with_mass_) mass_.add(std::span(sum_).first(n), begin_);
      std::fill_n(sum_.data(), n, 0.0F);
    }
    hash_.add(std::as_bytes(anchor));
    named_ = false;
    begin_ += block_size;
  }

  outer_rule rule_;
  float w_;
  outer_arrays arrays_;
  running_probe mass_;
  bool with_mass_, named_ = false;  // named: the delta has told of the block under way
  std::size_t begin_ = 0;           // the first element of the block under way
  std::array<float, block_size> sum_{};
  hash_stream hash_;
};

void check_spans(const outer_rule& rule, const group_shape& group, std::span<const float> anchor, std::span<const float> momentum) {
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
  step(rule, static_cast<float>(weight), sum.size(), sum.data(), anchor.data(), momentum.data());
}

expected<outer_outcome> apply_outer(const outer_rule& rule, const group_shape& group, const codec& down, std::span<const std::byte> frame,
                                    double weight, const outer_arrays& arrays, std::optional<std::uint64_t> mass_key) {
  check_spans(rule, group, arrays.anchor, arrays.momentum);
  check_spans(rule, group, arrays.old_anchor, arrays.old_momentum);
  if (!good_weight(weight)) {
    return fail(errc::out_of_range, fmt::format("outer step of group {}: weight {}, allowed are 2^-30 to 2^60", group.id, weight));
  }
  block_step sink(rule, static_cast<float>(weight), arrays, mass_key);
  if (auto ok = down.decode(group, frame, sink); !ok) return ok.failure();
  return sink.finish();
}

}  // namespace isthmus
