#include "kernels/cpu/backend.hpp"
#include "tests/kernels/central_differences.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

using namespace isthmus::kernels;
using namespace isthmus::kernels::testing;

BOOST_AUTO_TEST_SUITE(routes)

namespace {

/// A choice of experts, with room for all that route writes.
struct choice {
  choice(std::int64_t r, std::int64_t e, std::int64_t a, router_rule of) : rows(r), experts(e), active(a), rule(of) {
    const auto count = static_cast<std::size_t>(rows * active);
    chosen.resize(count);
    place.resize(count);
    weights.resize(count);
    counts.resize(static_cast<std::size_t>(experts));
    source.resize(static_cast<std::size_t>(slots_at_most(rows, experts, active)));
    starts.resize(static_cast<std::size_t>(experts) + 1);
  }
  template <class Real>
  route_args<Real> args(const std::vector<Real>& logits, std::vector<Real>& w, const Real* correction = nullptr) {
    w.resize(chosen.size());
    return {logits.data(), correction, chosen.data(), w.data(), counts.data(), place.data(), source.data(),
            starts.data(), rows,       experts,       active,   rule,          Real{1.5}};
  }
  std::int64_t rows, experts, active;
  router_rule rule;
  std::vector<std::int32_t> chosen, place, counts, source;
  doubles weights;
  std::vector<std::int64_t> starts;
};

constexpr router_rule rules[] = {router_rule::softmax, router_rule::softmax_all, router_rule::sigmoid};

}  // namespace

// Every choice has one slot among its expert's, whatever the logits: all alike, all at one expert, infinite or no numbers.
BOOST_AUTO_TEST_CASE(no_token_is_dropped) {
  const std::int64_t rows = 200, experts = 6, active = 2;
  inputs random(3, false);
  std::vector<std::vector<float>> texts{random.reals<float>(rows * experts), std::vector<float>(rows * experts, 1.0F)};
  for (const float odd : {1e30F, -1e30F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    texts.push_back(random.reals<float>(rows * experts));
    for (std::size_t i = 0; i < texts.back().size(); i += static_cast<std::size_t>(experts)) texts.back()[i] = odd;
  }
  for (const backend* b : cpu_backends())
    for (const auto& logits : texts) {
      serial_team team;
      const auto s = b->make_stream(team);
      choice c(rows, experts, active, router_rule::softmax);
      std::vector<float> weights;
      b->f32.route(*s, c.args(logits, weights));
      for (std::int64_t r = 0; r < rows; ++r) {
        const auto at = static_cast<std::size_t>(r * active);
        BOOST_REQUIRE(c.chosen[at] != c.chosen[at + 1]);
        for (std::size_t k = at; k < at + 2; ++k) {
          const auto e = static_cast<std::size_t>(c.chosen[k]);
          BOOST_REQUIRE(c.place[k] >= c.starts[e] && c.place[k] < c.starts[e] + c.counts[e]);
          BOOST_REQUIRE(c.source[static_cast<std::size_t>(c.place[k])] == static_cast<std::int32_t>(k));
        }
      }
      BOOST_TEST(c.starts.back() - std::count(c.source.begin(), c.source.begin() + c.starts.back(), -1) == rows * active);
      BOOST_TEST(c.starts.back() <= slots_at_most(rows, experts, active));
    }
}

BOOST_AUTO_TEST_CASE(equal_logits_go_to_the_first_experts) {
  for (const backend* b : cpu_backends()) {
    serial_team team;
    const auto s = b->make_stream(team);
    choice c(1, 5, 3, router_rule::softmax);
    std::vector<float> weights;
    b->f32.route(*s, c.args(std::vector<float>{0, 2, 1, 2, 1}, weights));
    BOOST_TEST(c.chosen == (std::vector<std::int32_t>{1, 3, 2}), boost::test_tools::per_element());
    BOOST_TEST(weights[0] == 1.5F / (2 + std::exp(-1.0F)), boost::test_tools::tolerance(1e-6F));
    BOOST_TEST((c.starts == std::vector<std::int64_t>{0, 0, 1, 2, 3, 3}));
  }
}

// The loss: weights along random numbers, and both auxiliary losses by their formulas; the shares f of the experts are constant.
BOOST_FIXTURE_TEST_CASE(gradients_agree_with_central_differences, reference_in_double) {
  const std::int64_t rows = 7, experts = 5, active = 2;
  for (const router_rule rule : rules) {
    choice c(rows, experts, active, rule);
    doubles logits = draw(rows * experts), correction = draw(experts, 0.2), weights, d_logits = zeros(rows * experts);
    const doubles d_weights = draw(rows * active);
    const double balance = 0.3, z = 0.2;
    ops.route(s, c.args(logits, weights, correction.data()));
    ops.route_backward(s, {logits.data(), c.chosen.data(), weights.data(), c.counts.data(), d_weights.data(), d_logits.data(), rows,
                           experts, active, rule, 1.5, balance, z});
    const auto counts = c.counts;
    check("logits", logits, d_logits, [&] {
      ops.route(s, c.args(logits, weights, correction.data()));
      double loss = along(weights, d_weights);
      for (std::int64_t r = 0; r < rows; ++r) {
        const double* row = logits.data() + r * experts;
        double exponentials = 0, scores = 0, pull = 0;
        for (std::int64_t e = 0; e < experts; ++e) {
          const double score = rule == router_rule::sigmoid ? 1 / (1 + std::exp(-row[e])) : std::exp(row[e]);
          exponentials += std::exp(row[e]);
          scores += score;
          pull += counts[static_cast<std::size_t>(e)] * score;
        }
        loss += balance * experts / rows * pull / scores + z * std::log(exponentials) * std::log(exponentials);
      }
      return loss;
    });
  }
}

BOOST_AUTO_TEST_SUITE_END()
