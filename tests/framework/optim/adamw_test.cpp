#include "framework/optim/adamw.hpp"

#include "framework/core/rng.hpp"
#include "framework/optim/schedule.hpp"
#include "kernels/select.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <limits>
#include <vector>

using namespace isthmus;

BOOST_AUTO_TEST_SUITE(adamw_steps)

namespace {

parameter_layout three_tensors() {
  parameter_layout layout;
  layout.add("a", {100, 7}, true);
  layout.add("b", {13}, false);
  layout.add("c", {9000}, true);
  return layout;
}

std::vector<float> random_floats(const parameter_layout& layout, std::uint64_t seed, double scale) {
  rng random(seed, 0, 0, draw::probe);
  std::vector<float> values(static_cast<std::size_t>(layout.size));
  for (const auto& slot : layout.slots)
    for (std::int64_t i = 0; i < slot.count; ++i)
      values[static_cast<std::size_t>(slot.offset + i)] = static_cast<float>(scale * random.normal());
  return values;
}

}  // namespace

BOOST_AUTO_TEST_CASE(slices_give_the_bits_of_the_whole) {
  const auto layout = three_tensors();
  for (const auto* backend : kernels::backends()) {
    kernels::serial_team team;
    const auto stream = backend->make_stream(team);
    adamw whole(layout, {}), sliced(layout, {});
    auto w1 = random_floats(layout, 1, 1), w2 = w1;
    for (std::uint64_t step = 0; step < 3; ++step) {
      auto g1 = random_floats(layout, 10 + step, 0.1), g2 = g1;
      const double norm = whole.step(*backend, *stream, w1, g1, 0.01);
      const float scale = clip_scale(norm * norm, 1.0);
      BOOST_TEST(scale < 1);
      const std::int64_t cuts[] = {0, 350, 711, 715, 5000, layout.size};
      const auto number = static_cast<std::int64_t>(step) + 1;
      for (int i = 0; i + 1 < 6; ++i) sliced.update(*backend, *stream, w2, g2, cuts[i], cuts[i + 1], 0.01, scale, true, number);
      sliced.finish_step();
      for (const float g : g1) BOOST_REQUIRE(g == 0);
      for (const float g : g2) BOOST_REQUIRE(g == 0);
    }
    BOOST_TEST((w1 == w2));
    BOOST_TEST(whole.steps() == 3);
    BOOST_TEST(sliced.steps() == 3);
    BOOST_TEST(std::equal(whole.first().begin(), whole.first().end(), sliced.first().begin()));
    BOOST_TEST(std::equal(whole.second().begin(), whole.second().end(), sliced.second().begin()));
  }
}

BOOST_AUTO_TEST_CASE(the_first_step_moves_by_the_rate_and_decays_where_it_should) {
  const auto layout = three_tensors();
  for (const auto* backend : kernels::backends()) {
    kernels::serial_team team;
    const auto stream = backend->make_stream(team);
    adamw optimizer(layout, {.weight_decay = 0.5F, .clip_norm = 0});
    const auto before = random_floats(layout, 1, 1);
    auto w = before, g = random_floats(layout, 2, 1);
    const auto g0 = g;
    optimizer.step(*backend, *stream, w, g, 0.01);
    for (const auto& slot : layout.slots) {
      for (std::int64_t i = slot.offset; i < slot.offset + slot.count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const double decay = slot.decays ? 0.01 * 0.5 * static_cast<double>(before[at]) : 0.0;
        const double expected = static_cast<double>(before[at]) - (g0[at] > 0 ? 0.01 : -0.01) - decay;
        BOOST_REQUIRE(std::abs(static_cast<double>(w[at]) - expected) < 1e-5);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_gradient_that_is_not_finite_changes_nothing) {
  const auto layout = three_tensors();
  for (const auto* backend : kernels::backends()) {
    kernels::serial_team team;
    const auto stream = backend->make_stream(team);
    adamw optimizer(layout, {});
    auto w = random_floats(layout, 1, 1), g = random_floats(layout, 2, 1);
    const auto before = w;
    g[5000] = std::numeric_limits<float>::quiet_NaN();
    BOOST_TEST(!std::isfinite(optimizer.step(*backend, *stream, w, g, 0.01)));
    BOOST_TEST((w == before));
    BOOST_TEST(optimizer.steps() == 0);
  }
}

BOOST_AUTO_TEST_CASE(the_rate_warms_up_and_falls_along_a_cosine) {
  const rate_schedule s{.peak = 1.0, .floor = 0.1, .warmup_tokens = 100, .total_tokens = 1100};
  BOOST_TEST(s.learning_rate(0) == 0.0);
  BOOST_TEST(s.learning_rate(50) == 0.5);
  BOOST_TEST(s.learning_rate(100) == 1.0);
  BOOST_TEST(s.learning_rate(600) == 0.55, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(s.learning_rate(1100) == 0.1, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(s.learning_rate(99999) == 0.1, boost::test_tools::tolerance(1e-12));
  for (std::int64_t t = 100; t < 1100; t += 10) BOOST_TEST(s.learning_rate(t) > s.learning_rate(t + 10));
  const rate_schedule flat{.peak = 0.3, .floor = 0.3, .warmup_tokens = 0, .total_tokens = 10};
  BOOST_TEST(flat.learning_rate(0) == 0.3);
}

BOOST_AUTO_TEST_SUITE_END()
