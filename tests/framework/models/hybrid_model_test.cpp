#include "framework/optim/adamw.hpp"
#include "kernels/select.hpp"
#include "tests/framework/models/model_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>

using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(hybrid_models)

BOOST_AUTO_TEST_CASE(bad_extents_are_named) {
  const auto message = [](auto change) {
    model_config c = tiny_config("am");
    change(c);
    const auto ok = check(c);
    BOOST_REQUIRE(!ok);
    BOOST_TEST((ok.error().code == errc::recipe_invalid));
    kernels::serial_team team;
    BOOST_CHECK_THROW(hybrid_model(c, kernels::default_backend(), team), contract_error);
    return ok.error().message;
  };
  BOOST_TEST(message([](auto& c) { c.d_model = 24; }).find("model.d_model is 24") == 0U);
  BOOST_TEST(message([](auto& c) { c.vocabulary = 0; }).find("model.vocabulary is 0") == 0U);
  BOOST_TEST(message([](auto& c) { c.options["n_kv_heads"] = 3; }).find("model.n_kv_heads is 3: it must divide n_heads = 4") == 0U);
  BOOST_TEST(message([](auto& c) { c.options["head_dim"] = 5; }).find("model.head_dim is 5") == 0U);
  BOOST_TEST(message([](auto& c) { c.options["ssm_head_dim"] = 9; }).find("model.ssm_head_dim is 9") == 0U);
  BOOST_TEST(message([](auto& c) { c.options["ssm_groups"] = 3; }).find("model.ssm_groups is 3") == 0U);
  BOOST_TEST(message([](auto& c) { c.layers.clear(); }).find("model.layers is 0") == 0U);
  BOOST_TEST(message([](auto& c) { c.options["rope_theta"] = 0; }).find("model.rope_theta is 0") == 0U);
  BOOST_TEST(message([](auto& c) { c.options["ssm_stat"] = 4; }).find("model.ssm_stat is no option") == 0U);
  BOOST_TEST(message([](auto& c) { c.layers[0] = "atention"; }).find("model.layers names \"atention\", which is no sequence mixer") == 0U);
  BOOST_TEST(message([](auto& c) { c.layers[0] = "attention/mamba2"; }).find("model.layers names \"mamba2\", which is no channel") == 0U);
  BOOST_TEST(message([](auto& c) {
               c.layers = {"local"};
               c.variants = {{"local", "attention", {{"n_kv_heads", 3}}}};
             }).find("model.variants.local.n_kv_heads is 3: it must divide n_heads = 4") == 0U);
  BOOST_TEST(message([](auto& c) { c.norm_eps = -1; }).find("model.norm_eps is -1") == 0U);
}

BOOST_AUTO_TEST_CASE(initial_weights_follow_the_papers) {
  model_config c = tiny_config("am");
  c.d_model = 64;
  c.vocabulary = 512;
  c.options["ssm_inner"] = 1024;
  const auto layout = hybrid_layout(c);
  std::vector<float> w(static_cast<std::size_t>(layout.size)), again(w), other(w);
  initial_weights(c, 3, w);
  initial_weights(c, 3, again);
  initial_weights(c, 4, other);
  BOOST_TEST((w == again));
  BOOST_TEST((w != other));
  std::int64_t covered = 0;
  for (const auto& slot : layout.slots) {
    const std::span<const float> t(w.data() + slot.offset, static_cast<std::size_t>(slot.count));
    const auto [low, high] = std::minmax_element(t.begin(), t.end());
    double squares = 0;
    for (const float v : t) squares += static_cast<double>(v) * static_cast<double>(v);
    const double deviation = std::sqrt(squares / static_cast<double>(slot.count));
    if (slot.name.ends_with("A_log")) BOOST_TEST((*low >= 0 && *high <= std::log(16.0F) + 1e-6F && *high > *low));
    if (slot.name.ends_with("dt_bias")) {
      BOOST_TEST(std::log1p(std::exp(*low)) >= 0.99e-3F);
      BOOST_TEST(std::log1p(std::exp(*high)) <= 0.101F);
    }
    if (slot.name.ends_with("norm.weight") || slot.name.ends_with(".D")) BOOST_TEST((*low == 1 && *high == 1));
    if (slot.name.ends_with("embed_tokens.weight")) BOOST_TEST(std::abs(deviation - 0.02) < 0.001);
    if (slot.name.ends_with("down_proj.weight")) BOOST_TEST(std::abs(deviation - 1 / std::sqrt(3.0 * 20 * 4)) < 0.01);
    BOOST_TEST(slot.decays == (slot.shape.size() > 1));
    covered += slot.count;
  }
  BOOST_TEST(covered == layout.parameter_count());
}

BOOST_AUTO_TEST_CASE(ids_out_of_range_are_refused) {
  kernels::serial_team team;
  hybrid_model model(tiny_config("am"), kernels::default_backend(), team);
  auto ids = random_ids(1, 10, 37);
  ids[9] = 37;
  BOOST_CHECK_THROW(model.accumulate({ids, 2, 4}, 1), contract_error);
  ids[9] = -1;
  BOOST_CHECK_THROW(model.evaluate({ids, 2, 4}), contract_error);
  BOOST_CHECK_THROW(model.evaluate({ids, 2, 5}), contract_error);
  auto state = model.start();
  BOOST_CHECK_THROW(model.advance(state, ids), contract_error);
  BOOST_CHECK_THROW(model.advance(state, {}), contract_error);
}

BOOST_AUTO_TEST_CASE(given_arrays_are_worked_on_and_outlive_the_model) {
  kernels::serial_team team;
  const auto config = tiny_config("am");
  const auto size = static_cast<std::size_t>(hybrid_layout(config).size);
  const auto weights = std::make_shared<float_array>(size), gradients = std::make_shared<float_array>(size);
  initial_weights(config, 1, weights->span());
  const auto ids = random_ids(1, 10, config.vocabulary);
  std::vector<float> expected;
  {
    hybrid_model own(config, kernels::default_backend(), team);
    initial_weights(config, 1, own.weights());
    own.accumulate({ids, 2, 4}, 1);
    expected.assign(own.gradients().begin(), own.gradients().end());
    hybrid_model shared(config, kernels::default_backend(), team, 2048, weights, gradients);
    shared.accumulate({ids, 2, 4}, 1);
  }
  BOOST_TEST(std::ranges::equal(gradients->span(), expected));
  const auto small = std::make_shared<float_array>(size - 1);
  BOOST_CHECK_THROW(hybrid_model(config, kernels::default_backend(), team, 2048, weights, small), contract_error);
}

/// Both precisions learn a text by heart, and a second run has the same bits.
BOOST_AUTO_TEST_CASE(a_small_text_is_learnt_and_runs_repeat_to_the_bit) {
  for (const auto* backend : kernels::backends()) {
    for (const auto precision : {precision_kind::fp32, precision_kind::bf16}) {
      auto config = tiny_config("ma");
      config.d_model = 32;
      config.precision = precision;
      const auto ids = random_ids(11, 4 * 17, config.vocabulary);
      std::vector<double> runs[2];
      for (auto& losses : runs) {
        kernels::serial_team team;
        hybrid_model model(config, *backend, team);
        initial_weights(config, 1, model.weights());
        adamw optimizer(model.layout(), {.weight_decay = 0.01F});
        for (int step = 0; step < 60; ++step) {
          model.weights_changed();
          losses.push_back(model.accumulate({ids, 4, 16}, 1.0 / 64) / 64);
          optimizer.step(*backend, model.stream(), model.weights(), model.gradients(), 0.01);
        }
      }
      BOOST_TEST(std::abs(runs[0].front() - std::log(37.0)) < 0.2);
      BOOST_TEST(runs[0].back() < 0.5, backend->name << " ends at " << runs[0].back());
      BOOST_TEST((runs[0] == runs[1]));
    }
  }
}

BOOST_AUTO_TEST_CASE(gaps_between_tensors_stay_zero) {
  for (const auto* backend : kernels::backends()) {
    kernels::serial_team team;
    auto config = tiny_config("am");
    config.options["ssm_inner"] = 24;  // three heads: A_log, D and dt_bias leave gaps
    hybrid_model model(config, *backend, team);
    initial_weights(config, 1, model.weights());
    adamw optimizer(model.layout(), {});
    const auto ids = random_ids(1, 18, config.vocabulary);
    model.accumulate({ids, 2, 8}, 1);
    std::vector<char> used(static_cast<std::size_t>(model.layout().size), 0);
    for (const auto& slot : model.layout().slots) std::fill_n(used.begin() + slot.offset, slot.count, 1);
    for (std::size_t i = 0; i < used.size(); ++i) BOOST_REQUIRE(used[i] || model.gradients()[i] == 0);
    optimizer.step(*backend, model.stream(), model.weights(), model.gradients(), 0.1);
    for (std::size_t i = 0; i < used.size(); ++i) BOOST_REQUIRE(used[i] || model.weights()[i] == 0);
  }
}

BOOST_AUTO_TEST_CASE(targets_of_their_own_count_where_there_are_some) {
  const auto config = tiny_config("am");
  kernels::serial_team team;
  hybrid_model model(config, kernels::default_backend(), team, 16);  // two rows at once
  initial_weights(config, 1, model.weights());
  const std::int64_t rows = 3, context = 8;
  const auto ids = random_ids(4, rows * (context + 1), config.vocabulary);
  std::vector<std::int32_t> inputs, targets, first, second;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t t = 0; t < context; ++t) {
      const auto at = static_cast<std::size_t>(r * (context + 1) + t);
      inputs.push_back(ids[at]);
      targets.push_back(ids[at + 1]);
      first.push_back(t < 3 ? ids[at + 1] : no_target);
      second.push_back(t < 3 ? no_target : ids[at + 1]);
    }
  }
  const double all = model.evaluate({ids, rows, context});
  BOOST_TEST(model.evaluate({inputs, rows, context, targets}) == all);
  const double parts = model.evaluate({inputs, rows, context, first}) + model.evaluate({inputs, rows, context, second});
  BOOST_TEST(parts == all, boost::test_tools::tolerance(1e-6));
  targets[5] = static_cast<std::int32_t>(config.vocabulary);
  BOOST_CHECK_THROW(model.evaluate({inputs, rows, context, targets}), contract_error);
  BOOST_CHECK_THROW(model.evaluate({ids, rows, context, targets}), contract_error);
}

BOOST_AUTO_TEST_SUITE_END()
