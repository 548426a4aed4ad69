#include "framework/core/error.hpp"
#include "kernels/select.hpp"
#include "tests/framework/models/model_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>

using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(encoders)

namespace {

struct trained {
  trained(const model_config& c, const token_batch& batch, const kernels::backend& backend, std::int64_t tokens_at_once = 2048)
      : model(c, backend, team, tokens_at_once) {
    std::ranges::copy(shaken_weights(c, 3), model.weights().begin());
    model.weights_changed();
    loss = model.accumulate(batch, 1);
  }
  kernels::serial_team team;
  hybrid_model model;
  double loss = 0;
};

/// Each third token is masked, and asked for.
struct masked_text {
  masked_text(std::int64_t rows, std::int64_t context, std::int64_t vocabulary)
      : ids(random_ids(7, rows * context, vocabulary)), targets(ids) {
    for (std::size_t i = 0; i < ids.size(); ++i) (i % 3 == 0 ? ids[i] : targets[i]) = i % 3 == 0 ? 0 : no_target;
    batch = {ids, rows, context, targets};
  }
  std::vector<std::int32_t> ids, targets;
  token_batch batch;
};

double difference(std::span<const float> a, std::span<const float> b) {
  double largest = 0, apart = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
    apart = std::max(apart, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return apart / largest;
}

}  // namespace

/// Logits at each place say what the loss is.
BOOST_AUTO_TEST_CASE(predictions_agree_with_the_loss) {
  const masked_text text(1, 16, 37);
  for (const bool residual : {false, true}) {
    for (const auto* backend : kernels::backends()) {
      trained m(tiny_encoder("baf", residual), text.batch, *backend);
      double sum = 0;
      for (std::int64_t t = 0; t < 16; ++t) {
        const std::int32_t target = text.targets[static_cast<std::size_t>(t)];
        if (target == no_target) continue;
        const auto logits = m.model.predict(text.ids, std::span(&t, 1));
        double total = 0;
        for (const float l : logits) total += std::exp(static_cast<double>(l));
        sum += std::log(total) - static_cast<double>(logits[static_cast<std::size_t>(target)]);
      }
      BOOST_TEST(sum == m.loss, boost::test_tools::tolerance(1e-5));
    }
  }
}

/// Of a model that decodes, predict and advance give the same.
BOOST_AUTO_TEST_CASE(a_decoder_predicts_what_it_would_go_on_with) {
  const auto config = tiny_config("am");
  const auto ids = random_ids(2, 12, config.vocabulary);
  trained m(config, {ids, 1, 11}, kernels::default_backend());
  const std::vector<std::int64_t> places{11, 4};
  const auto found = m.model.predict(ids, places);
  const std::vector<float> both(found.begin(), found.end());
  for (std::size_t i = 0; i < places.size(); ++i) {
    auto state = m.model.start();
    const auto logits = m.model.advance(state, {ids.data(), static_cast<std::size_t>(places[i]) + 1});
    BOOST_TEST(difference(std::span(both).subspan(i * 37, 37), logits) < 1e-5);
  }
}

BOOST_AUTO_TEST_CASE(bf16_stays_near_fp32) {
  const masked_text text(2, 16, 37);
  for (const bool residual : {false, true}) {
    auto config = tiny_encoder("baf", residual);
    for (const auto* backend : kernels::backends()) {
      config.precision = precision_kind::fp32;
      trained wide(config, text.batch, *backend);
      config.precision = precision_kind::bf16;
      trained narrow(config, text.batch, *backend);
      BOOST_TEST(std::abs(narrow.loss - wide.loss) < 0.02 * wide.loss);
      BOOST_TEST(difference(narrow.model.gradients(), wide.model.gradients()) < 0.1, backend->name);
    }
  }
}

BOOST_AUTO_TEST_CASE(neither_pieces_nor_layers_computed_twice_change_gradients) {
  const masked_text text(2, 128, 37);
  for (const bool residual : {false, true}) {
    auto config = tiny_encoder("bbfa", residual);
    config.d_model = 64;
    config.options["ffn_hidden"] = 192;
    config.encoder->positions = 128;
    trained plain(config, text.batch, kernels::default_backend());
    trained pieces(config, text.batch, kernels::default_backend(), 128);
    BOOST_TEST(pieces.model.plan(2, 128).rows_at_once == 1);
    BOOST_TEST(difference(pieces.model.gradients(), plain.model.gradients()) < 1e-5);
    config.activation_mib = (plain.model.plan(2, 128).bytes >> 20) * 3 / 4;
    trained frugal(config, text.batch, kernels::default_backend());
    BOOST_TEST(std::ranges::count(frugal.model.plan(2, 128).recomputed, true) > 0);
    BOOST_TEST(frugal.model.plan(2, 128).rows_at_once == 2);
    BOOST_TEST(frugal.loss == plain.loss);
    BOOST_TEST(std::ranges::equal(frugal.model.gradients(), plain.model.gradients()));
  }
}

BOOST_AUTO_TEST_CASE(an_encoder_that_is_none_is_told) {
  auto config = tiny_encoder("b", false);
  BOOST_TEST(check(config).has_value());
  config.norm = norm_kind::rms_norm;
  BOOST_TEST(check(config).error().message.find("an encoder has LayerNorms") != std::string::npos);
  config = tiny_encoder("b", false);
  config.encoder->positions = -1;
  BOOST_TEST(check(config).error().message.find("model.encoder.positions is -1") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
