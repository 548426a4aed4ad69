#include "framework/models/network.hpp"
#include "kernels/reference/backend.hpp"
#include "tests/framework/models/model_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>

using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(gradient)

namespace {

/// The whole model in double: gradients of every tensor against central differences.
struct double_model {
  explicit double_model(const model_config& c, std::uint64_t seed)
      : config(c), layout(hybrid_layout(c)), gradients(static_cast<std::size_t>(layout.size)) {
    const auto narrow = shaken_weights(c, seed);
    weights.assign(narrow.begin(), narrow.end());
    net = std::make_unique<hybrid_network<double>>(config, layout, kernels::reference_double_ops(), kernels::reference_double_ops(), stream,
                                                   weights.data(), gradients.data(), 1 << 20);
  }
  double loss(const token_batch& batch) {
    net->weights_changed();
    return net->run(batch, 0, false);
  }

  model_config config;
  parameter_layout layout;
  std::vector<double> weights, gradients;
  kernels::serial_team team;
  kernels::stream stream{team};
  std::unique_ptr<hybrid_network<double>> net;
};

void check_gradients(const model_config& config, std::uint64_t seed, const token_batch& batch) {
  BOOST_TEST_INFO("seed " << seed);
  double_model m(config, seed);
  const double scale = 0.5;
  m.net->run(batch, scale, true);
  rng random(seed, 2, 0, draw::sampling);
  for (const auto& slot : m.layout.slots) {
    for (int probe = 0; probe < 4; ++probe) {
      const auto i = static_cast<std::size_t>(slot.offset) + random.below(static_cast<std::uint64_t>(slot.count));
      const double w = m.weights[i], step = 1e-5;
      m.weights[i] = w + step;
      const double above = m.loss(batch);
      m.weights[i] = w - step;
      const double below = m.loss(batch);
      m.weights[i] = w;
      const double expected = scale * (above - below) / (2 * step), found = m.gradients[i];
      BOOST_TEST(std::abs(found - expected) <= 1e-6 * (1 + std::abs(expected)),
                 slot.name << " element " << i - static_cast<std::size_t>(slot.offset) << ": " << found << " against " << expected
                           << ", seed " << seed);
    }
  }
}

void check_gradients(const model_config& config, std::uint64_t seed, std::int64_t rows, std::int64_t context) {
  const auto ids = random_ids(seed, rows * (context + 1), config.vocabulary);
  check_gradients(config, seed, {ids, rows, context});
}

}  // namespace

BOOST_AUTO_TEST_CASE(attention_layers_agree_with_central_differences) { check_gradients(tiny_config("aa"), 1, 2, 7); }
BOOST_AUTO_TEST_CASE(attention_with_a_window_agrees_with_central_differences) { check_gradients(tiny_config("ww"), 14, 2, 11); }
BOOST_AUTO_TEST_CASE(attention_within_documents_agrees_with_central_differences) {
  auto config = tiny_config("aw");
  config.vocabulary = 5;
  config.document_mark = 3;
  check_gradients(config, 15, 2, 11);
}
BOOST_AUTO_TEST_CASE(mamba2_layers_agree_with_central_differences) { check_gradients(tiny_config("mm"), 2, 2, 11); }
BOOST_AUTO_TEST_CASE(mamba1_layers_agree_with_central_differences) { check_gradients(tiny_config("ss"), 8, 2, 11); }
BOOST_AUTO_TEST_CASE(mamba1_with_norms_inside_agrees_with_central_differences) {
  auto config = tiny_config("ss");
  config.options["scan_norms"] = 1;
  check_gradients(config, 15, 2, 11);
}
BOOST_AUTO_TEST_CASE(hyena_layers_agree_with_central_differences) {
  for (const char* layers : {"hh", "dd", "ee"}) check_gradients(tiny_config(layers), 9, 2, 11);
}
BOOST_AUTO_TEST_CASE(monarch_mixers_agree_with_central_differences) {
  for (const char* layers : {"rr", "bb"}) check_gradients(tiny_config(layers), 16, 2, 11);
}
/// A third of the tokens is masked, and they are to be found: what a bidirectional layer learns by.
BOOST_AUTO_TEST_CASE(masked_targets_agree_with_central_differences) {
  for (const char* layers : {"ba", "ff"}) {
    const auto config = tiny_config(layers);
    const std::int64_t rows = 2, context = 11;
    auto ids = random_ids(17, rows * context, config.vocabulary), targets = ids;
    for (std::size_t i = 0; i < ids.size(); ++i) (i % 3 == 0 ? ids[i] : targets[i]) = i % 3 == 0 ? 0 : no_target;
    check_gradients(config, 17, {ids, rows, context, targets});
  }
}
BOOST_AUTO_TEST_CASE(encoders_agree_with_central_differences) {
  for (const bool mixer_residual : {false, true}) check_gradients(tiny_encoder("baf", mixer_residual), 18, 2, 11);
  auto own_head = tiny_encoder("r", false);
  own_head.tied_head = false;
  own_head.encoder->positions = own_head.encoder->token_types = 0;
  check_gradients(own_head, 19, 2, 7);
}
BOOST_AUTO_TEST_CASE(gated_delta_nets_agree_with_central_differences) { check_gradients(tiny_config("gg"), 10, 2, 11); }
BOOST_AUTO_TEST_CASE(channel_mixers_agree_with_central_differences) {
  for (const char* channel : {"gelu", "geglu", "relu2", "monarch_mlp", "monarch_mlp_plain"}) {
    auto config = tiny_config("m");
    config.channel = channel;
    check_gradients(config, 14, 2, 7);
  }
}
BOOST_AUTO_TEST_CASE(biases_and_layer_norms_agree_with_central_differences) {
  auto config = tiny_config("amh");
  config.norm = norm_kind::layer_norm;
  config.channel = "geglu";
  for (const char* key : {"qkv_bias", "attention_out_bias", "ssm_bias", "hyena_bias", "ffn_bias"}) config.options[key] = 1;
  check_gradients(config, 15, 2, 7);
}
BOOST_AUTO_TEST_CASE(mixtures_of_experts_agree_with_central_differences) { check_gradients(with_experts(tiny_config("ama")), 14, 2, 11); }
BOOST_AUTO_TEST_CASE(a_head_of_its_own_agrees_with_central_differences) {
  auto config = tiny_config("a");
  config.tied_head = false;
  check_gradients(config, 12, 2, 7);
}
BOOST_AUTO_TEST_CASE(attention_that_rotates_some_columns_agrees_with_central_differences) {
  auto config = tiny_config("aa");
  config.options["rotary_dim"] = 2;
  config.options["rope_factor"] = 4;
  config.options["rope_context"] = 8;
  config.options["attention_scale"] = 0.3;
  check_gradients(config, 13, 2, 7);
}
BOOST_AUTO_TEST_CASE(hybrids_agree_with_central_differences) {
  for (std::uint64_t seed = 3; seed < 6; ++seed) check_gradients(tiny_config("mshdgweam", 2), seed, 3, 9);
}

BOOST_AUTO_TEST_CASE(gradients_add_up_over_batches_and_pieces) {
  const auto config = tiny_config("am");
  double_model whole(config, 9), parts(config, 9);
  const auto ids = random_ids(9, 6 * 9, config.vocabulary);
  const double loss = whole.net->run({ids, 6, 8}, 1, true);
  hybrid_network<double> pieces(config, parts.layout, kernels::reference_double_ops(), kernels::reference_double_ops(), parts.stream,
                                parts.weights.data(), parts.gradients.data(), 16);  // two rows at once
  const std::span<const std::int32_t> all = ids;
  double sum = pieces.run({all.first(5 * 9), 5, 8}, 1, true);
  sum += pieces.run({all.subspan(5 * 9), 1, 8}, 1, true);
  BOOST_TEST(sum == loss, boost::test_tools::tolerance(1e-12));
  for (std::size_t i = 0; i < whole.gradients.size(); ++i)
    BOOST_REQUIRE(std::abs(whole.gradients[i] - parts.gradients[i]) < 1e-10 * (1 + std::abs(whole.gradients[i])));
}

BOOST_AUTO_TEST_SUITE_END()
