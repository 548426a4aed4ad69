#include "framework/core/error.hpp"
#include "kernels/quantise.hpp"
#include "kernels/select.hpp"
#include "tests/framework/models/model_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>

using namespace isthmus;
using namespace isthmus::testing;
using kernels::weight_format;

BOOST_AUTO_TEST_SUITE(inference)

namespace {

std::shared_ptr<float_array> shared(const std::vector<float>& values) {
  auto array = std::make_shared<float_array>(values.size());
  std::copy(values.begin(), values.end(), array->data());
  return array;
}

std::vector<float> logits_of(hybrid_model& model, std::span<const std::int32_t> ids) {
  auto state = model.start();
  const auto logits = model.advance(state, ids);
  return {logits.begin(), logits.end()};
}

/// Every matrix of a projection replaced by what a format makes of it.
std::vector<float> through_projections(const model_config& config, std::vector<float> weights, weight_format format) {
  for (const auto& slot : hybrid_layout(config).slots) {
    if (slot.shape.size() != 2 || slot.name.find("proj") == std::string::npos) continue;
    const std::int64_t in = slot.shape.back();
    for (std::int64_t at = 0; at < slot.count; at += in)
      for (std::int64_t i = 0; i < in; i += kernels::quantised_group) {
        float* group = weights.data() + slot.offset + at + i;
        kernels::through_format(group, std::min(kernels::quantised_group, in - i), format, group);
      }
  }
  return weights;
}

}  // namespace

// A model in a format is the model of the weights that the format makes: to the reference's rounding, where activations stay fp32.
BOOST_AUTO_TEST_CASE(a_format_changes_the_weights_and_nothing_else) {
  const auto config = tiny_config("amam", 2);
  const auto weights = shaken_weights(config, 3);
  const auto ids = random_ids(5, 12, config.vocabulary);
  kernels::serial_team team;
  const auto& reference = *kernels::find_backend("reference");
  for (const auto format : {weight_format::bf16, weight_format::int8, weight_format::int4}) {
    hybrid_model quantised(config, reference, team, {format}, shared(weights));
    hybrid_model plain(config, reference, team, {}, shared(through_projections(config, weights, format)));
    // Losses read the master's head in both: they differ by projections alone.
    const double expected = plain.evaluate({ids, 1, 11});
    BOOST_TEST(std::abs(quantised.evaluate({ids, 1, 11}) - expected) <= 1e-6 * expected);
    hybrid_model untouched(config, reference, team, {}, shared(weights));
    BOOST_TEST(std::abs(untouched.evaluate({ids, 1, 11}) - expected) > 1e-6 * expected);
  }
}

BOOST_AUTO_TEST_CASE(every_backend_gives_about_the_logits_of_the_reference) {
  for (const auto precision : {precision_kind::fp32, precision_kind::bf16}) {
    auto config = tiny_config("ama", 2);
    config.precision = precision;
    const auto weights = shaken_weights(config, 3);
    const auto ids = random_ids(5, 12, config.vocabulary);
    kernels::serial_team team;
    for (const inference_formats formats : {inference_formats{},
                                            {weight_format::bf16},
                                            {weight_format::int8},
                                            {weight_format::int4},
                                            {weight_format::master, kernels::cache_format::bf16}}) {
      hybrid_model expected(config, *kernels::find_backend("reference"), team, formats, shared(weights));
      const auto wanted = logits_of(expected, ids);
      float scale = 0, most = 0;
      for (const float l : wanted) scale = std::max(scale, std::abs(l));
      for (const auto* backend : kernels::backends()) {
        hybrid_model model(config, *backend, team, formats, shared(weights));
        const auto found = logits_of(model, ids);
        for (std::size_t v = 0; v < wanted.size(); ++v) most = std::max(most, std::abs(found[v] - wanted[v]));
        BOOST_TEST(most <= 0.05F * scale, backend->name << " is off by " << most / scale);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(caches_in_bf16_are_half_as_large_and_give_about_the_same_logits) {
  const auto config = tiny_config("aa");
  const auto weights = shared(shaken_weights(config, 4));
  const auto ids = random_ids(6, 40, config.vocabulary);
  const std::span<const std::int32_t> all = ids;
  kernels::serial_team team;
  hybrid_model full(config, kernels::default_backend(), team, {}, weights),
      half(config, kernels::default_backend(), team, {weight_format::master, kernels::cache_format::bf16}, weights);
  auto whole = full.start(), rounded = half.start();
  float most = 0, scale = 0;
  const auto feed = [&](std::size_t first, std::size_t count) {
    const auto wanted = full.advance(whole, all.subspan(first, count)), found = half.advance(rounded, all.subspan(first, count));
    for (std::size_t v = 0; v < wanted.size(); ++v) {
      most = std::max(most, std::abs(found[v] - wanted[v]));
      scale = std::max(scale, std::abs(wanted[v]));
    }
  };
  feed(0, 20);
  BOOST_TEST(most == 0);  // a prompt sees its keys as they were computed
  feed(20, 3);
  for (std::size_t i = 23; i < all.size(); ++i) feed(i, 1);
  BOOST_TEST(most > 0);
  BOOST_TEST(most < 0.02F * scale, "off by " << most / scale);
  BOOST_TEST(2 * bytes_of(rounded) == bytes_of(whole));
  BOOST_CHECK_THROW(full.advance(rounded, all.first(1)), contract_error);
  BOOST_CHECK_THROW(half.advance(whole, all.first(1)), contract_error);
}

BOOST_AUTO_TEST_CASE(a_model_for_inference_does_not_train) {
  const auto config = tiny_config("a");
  kernels::serial_team team;
  for (const auto format : {weight_format::master, weight_format::int8}) {
    hybrid_model model(config, kernels::default_backend(), team, {format}, shared(shaken_weights(config, 1)));
    const auto ids = random_ids(1, 9, config.vocabulary);
    BOOST_CHECK_THROW(model.accumulate({ids, 1, 8}, 1), contract_error);
    BOOST_CHECK_THROW(model.gradients(), contract_error);
  }
}

BOOST_AUTO_TEST_SUITE_END()
