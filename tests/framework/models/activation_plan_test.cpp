#include "framework/core/error.hpp"
#include "framework/models/network.hpp"
#include "kernels/select.hpp"
#include "tests/framework/models/model_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>

using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(activation_plans)

namespace {

/// A model wide enough that a MiB is a matter of layers, in one piece of all rows.
model_config wide_config(std::int64_t activation_mib) {
  auto c = tiny_config("amshdegramm", 2);
  c.d_model = 64;
  c.options["ffn_hidden"] = 192;
  c.options["ssm_inner"] = 128;
  c.medusa_heads = 2;
  c.activation_mib = activation_mib;
  return c;
}

constexpr std::int64_t context = 128;

struct trained {
  explicit trained(const model_config& c, std::int64_t rows) : model(c, kernels::default_backend(), team, rows * context) {
    const auto w = shaken_weights(c, 3);
    std::ranges::copy(w, model.weights().begin());
    model.weights_changed();
    const auto ids = random_ids(5, rows * (context + 1), c.vocabulary);
    plan = model.plan(rows, context);
    loss = model.accumulate({ids, rows, context}, 1);
  }
  std::int64_t layers_computed_twice() const { return std::ranges::count(plan.recomputed, true); }
  kernels::serial_team team;
  hybrid_model model;
  activation_plan plan;
  double loss = 0;
};

}  // namespace

BOOST_AUTO_TEST_CASE(gradients_do_not_depend_on_what_is_computed_twice) {
  trained plain(wide_config(0), 2);
  BOOST_TEST(plain.layers_computed_twice() == 0);
  const std::int64_t most = plain.plan.bytes >> 20;
  BOOST_TEST_REQUIRE(most >= 4);
  std::int64_t twice_before = 0;
  for (const std::int64_t mib : {most - 1, most / 2 + 1}) {
    trained frugal(wide_config(mib), 2);
    BOOST_TEST(frugal.plan.bytes <= mib << 20);
    BOOST_TEST(frugal.plan.rows_at_once == 2);
    BOOST_TEST(frugal.layers_computed_twice() > twice_before);
    twice_before = frugal.layers_computed_twice();
    BOOST_TEST(frugal.loss == plain.loss);
    BOOST_TEST(std::ranges::equal(frugal.model.gradients(), plain.model.gradients()));
  }
}

BOOST_AUTO_TEST_CASE(fewer_rows_at_once_come_first) {
  trained plain(wide_config(0), 8);
  BOOST_TEST(plain.plan.rows_at_once == 8);
  trained frugal(wide_config((plain.plan.bytes >> 20) / 2 + 1), 8);
  BOOST_TEST(frugal.plan.rows_at_once == 4);
  BOOST_TEST(frugal.layers_computed_twice() == 0);
  BOOST_TEST(std::abs(frugal.loss - plain.loss) < 1e-5 * plain.loss);
}

BOOST_AUTO_TEST_CASE(what_cannot_fit_is_said) {
  const auto says = [](const contract_error& e) {
    return std::string(e.what()).find("model.activation_mib = 1 is too little: a row of 128 tokens takes") != std::string::npos;
  };
  BOOST_CHECK_EXCEPTION(trained(wide_config(1), 2), contract_error, says);
}

BOOST_AUTO_TEST_CASE(a_model_without_gradients_keeps_nothing) {
  const auto config = wide_config(0);
  trained plain(config, 2);
  kernels::serial_team team;
  auto weights = std::make_shared<float_array>(static_cast<std::size_t>(hybrid_layout(config).size));
  std::ranges::copy(plain.model.weights(), weights->data());
  hybrid_model reader(config, kernels::default_backend(), team, {}, weights);
  BOOST_TEST(reader.plan(2, context).bytes < plain.plan.bytes / 2);
  const auto ids = random_ids(5, 2 * (context + 1), config.vocabulary);
  BOOST_TEST(reader.evaluate({ids, 2, context}) == plain.loss);
}

BOOST_AUTO_TEST_SUITE_END()
