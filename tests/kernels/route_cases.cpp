#include "tests/kernels/make_case.hpp"

#include <string>

namespace isthmus::kernels::testing {

namespace {

struct mixture {
  std::int64_t rows, experts, active, cols;
  router_rule rule;
  double scale;
  std::string name() const {
    return "route " + std::to_string(rows) + " rows, " + std::to_string(active) + " of " + std::to_string(experts) + " experts, rule " +
           std::to_string(static_cast<int>(rule));
  }
};

/// All of a mixture's way but the experts themselves: what they give is random.
kernel_case route_case(mixture m) {
  return make(m.name(), [=]<class Act>(const op_table<Act>& ops, stream& s, placed_inputs& random) {
    using R = real<Act>;
    const std::int64_t choices = m.rows * m.active, most = slots_at_most(m.rows, m.experts, m.active);
    const auto logits = random.act<Act>(m.rows * m.experts, 2), x = random.act<Act>(m.rows * m.cols), dy = random.act<Act>(m.rows * m.cols);
    const auto correction = random.reals<Act>(m.experts, 0.2);
    auto chosen = random.blank<std::int32_t>(choices), place = chosen, counts = random.blank<std::int32_t>(m.experts);
    auto source = random.place(std::vector<std::int32_t>(static_cast<std::size_t>(most), -77));
    auto weights = random.blank<R>(choices), d_weights = weights;
    std::vector<std::int64_t> starts(static_cast<std::size_t>(m.experts) + 1);
    ops.route(s, {.logits = logits.data(),
                  .correction = m.rule == router_rule::sigmoid ? correction.data() : nullptr,
                  .chosen = chosen.data(),
                  .weights = weights.data(),
                  .counts = counts.data(),
                  .place = place.data(),
                  .source = source.data(),
                  .starts = starts.data(),
                  .rows = m.rows,
                  .experts = m.experts,
                  .active = m.active,
                  .rule = m.rule,
                  .scale = static_cast<R>(static_cast<float>(m.scale))});
    const std::int64_t slots = starts.back();
    auto sorted = random.blank<Act>(slots * m.cols), y = random.act<Act>(m.rows * m.cols), dx = random.blank<Act>(m.rows * m.cols);
    ops.dispatch(s, {x.data(), source.data(), sorted.data(), slots, m.active, m.cols});
    const auto sent = sorted;
    sorted.set(random.host.act<Act>(slots * m.cols));
    ops.combine(s, {sorted.data(), place.data(), weights.data(), y.data(), m.rows, m.active, m.cols, true});
    ops.combine_backward(
        s, {dy.data(), sorted.data(), source.data(), weights.data(), sorted.data(), d_weights.data(), slots, m.active, m.cols});
    ops.combine(s, {sorted.data(), place.data(), nullptr, dx.data(), m.rows, m.active, m.cols, false});
    auto d_logits = random.blank<Act>(m.rows * m.experts), d_auxiliary = d_logits;
    route_backward_args<Act> back{.logits = logits.data(),
                                  .chosen = chosen.data(),
                                  .weights = weights.data(),
                                  .counts = counts.data(),
                                  .d_weights = d_weights.data(),
                                  .d_logits = d_logits.data(),
                                  .rows = m.rows,
                                  .experts = m.experts,
                                  .active = m.active,
                                  .rule = m.rule,
                                  .scale = static_cast<R>(static_cast<float>(m.scale)),
                                  .balance = 0,
                                  .z = 0};
    ops.route_backward(s, back);
    back.d_logits = d_auxiliary.data();
    back.balance = R{1} / 2;
    back.z = R{1} / 4;
    ops.route_backward(s, back);
    outputs o;
    o.add("chosen", chosen);
    o.add("weights", weights);
    o.add("counts", counts);
    o.add("place", place);
    o.add("source", source);
    o.add("sorted", sent);
    o.add("y", y);
    o.add("d_weights", d_weights);
    o.add("d_sorted", sorted);
    o.add("dx", dx);
    o.add("d_logits", d_logits);
    o.add("d_logits with auxiliary losses", d_auxiliary);
    return o;
  });
}

}  // namespace

std::vector<kernel_case> route_cases() {
  return {route_case({1, 8, 2, 24, router_rule::softmax, 1}),       route_case({37, 5, 2, 19, router_rule::softmax, 1}),
          route_case({300, 4, 2, 48, router_rule::softmax_all, 1}), route_case({70, 40, 6, 16, router_rule::sigmoid, 2.5}),
          route_case({150, 3, 1, 33, router_rule::softmax_all, 1}), route_case({90, 17, 17, 8, router_rule::softmax, 0.5})};
}

}  // namespace isthmus::kernels::testing
