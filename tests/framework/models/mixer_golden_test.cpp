#include "framework/core/buffer.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/layer_pairs.hpp"
#include "kernels/select.hpp"
#include "tests/framework/models/golden_values.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <string>

// Against PyTorch: tests/golden/make_mixer_golden.py wrote what to expect.
using namespace isthmus;
using namespace isthmus::testing;
using nlohmann::json;

BOOST_AUTO_TEST_SUITE(mixer_golden)

namespace {

json read_golden() {
  std::ifstream file("tests/golden/mixer_golden.json");
  BOOST_REQUIRE_MESSAGE(file, "tests/golden/mixer_golden.json cannot be read");
  return json::parse(file);
}

/// The script's weight_of.
float weight_of(std::string_view name, std::int64_t i) {
  const double u = golden_uniform(name, 1, static_cast<std::uint64_t>(i));
  if (name.ends_with("freq")) return static_cast<float>(1.5 + u);
  if (name.ends_with("decay")) return static_cast<float>(4 + 6 * u);
  if (name.ends_with("poles")) return static_cast<float>(-0.6 - u);
  if (name.ends_with("norm.weight") || name.ends_with(".D")) return static_cast<float>(1 + 0.5 * u);
  return static_cast<float>(name.ends_with(".bias") ? u : 1.5 * u);
}

void fill(const parameter_layout& layout, std::string_view prefix, std::span<float> weights) {
  for (const auto& slot : layout.slots)
    for (std::int64_t i = 0; i < slot.count; ++i)
      weights[static_cast<std::size_t>(slot.offset + i)] = weight_of(std::string_view(slot.name).substr(prefix.size()), i);
}

/// The largest difference, over the largest number expected.
double relative_difference(std::span<const float> found, const std::vector<double>& expected) {
  BOOST_REQUIRE(found.size() == expected.size());
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(expected[i] - static_cast<double>(found[i])));
  }
  return difference / largest;
}

void check_gradients(const parameter_layout& layout, std::string_view prefix, std::span<const float> gradients, const json& expected) {
  BOOST_TEST(layout.slots.size() == expected.size());
  std::map<std::string, const json*> by_name;
  for (const json& e : expected) by_name.emplace(e.at("name"), &e);
  for (const auto& slot : layout.slots) {
    const auto at = by_name.find(slot.name.substr(prefix.size()));
    BOOST_TEST_REQUIRE((at != by_name.end()), slot.name << " is unknown to the script");
    const json& e = *at->second;
    BOOST_TEST((e.at("shape").get<std::vector<std::int64_t>>() == slot.shape), slot.name);
    const auto found = gradients.subspan(static_cast<std::size_t>(slot.offset), static_cast<std::size_t>(slot.count));
    double squares = 0;
    for (const float g : found) squares += static_cast<double>(g) * static_cast<double>(g);
    const double norm = e.at("norm"), typical = norm / std::sqrt(static_cast<double>(slot.count));
    BOOST_TEST(std::abs(std::sqrt(squares) - norm) <= 1e-3 * norm, slot.name << ": norm " << std::sqrt(squares) << " against " << norm);
    for (std::size_t k = 0; k < e.at("picks").size(); ++k) {
      const double value = e.at("values")[k], mine = static_cast<double>(found[e.at("picks")[k].get<std::size_t>()]);
      BOOST_TEST(std::abs(mine - value) <= 1e-3 * (std::abs(value) + typical),
                 slot.name << " element " << e.at("picks")[k] << ": " << mine << " against " << value);
    }
  }
}

/// What a recipe would tell a layer of the script's.
layer_shape shape_of(const json& golden) {
  const json& c = golden.at("config");
  const std::string kind = golden.at("kind");
  model_config model;
  model.d_model = golden.at("d_model");
  const auto place = [](const char* option, const std::string& word) {
    const auto words = builtin_layers().find_option(option)->words;
    return static_cast<double>(std::ranges::find(words, word) - words.begin());
  };
  const auto flag = [&](const char* key) { return c.at(key).get<bool>() ? 1.0 : 0.0; };
  if (kind == "monarch") {
    model.options = {{"monarch_context", c.at("context")},
                     {"monarch_features", c.at("features")},
                     {"monarch_order", c.at("order")},
                     {"monarch_short", c.at("short")},
                     {"monarch_residual", flag("residual")},
                     {"monarch_bias", flag("bias")},
                     {"monarch_bidirectional", flag("both_ways")},
                     {"monarch_learned", flag("learned")}};
  } else if (kind == "hyena") {
    model.options = {{"hyena_filter", place("hyena_filter", c.at("filter"))},
                     {"hyena_modes", c.at("modes")},
                     {"hyena_taps", c.at("taps")},
                     {"hyena_filters", c.at("filters")},
                     {"hyena_short", c.at("short")},
                     {"hyena_bias", flag("bias")}};
  } else if (kind == "gated_delta_net") {
    model.options = {{"delta_heads", c.at("heads")},
                     {"delta_key_dim", c.at("key_dim")},
                     {"delta_value_dim", c.at("value_dim")},
                     {"conv_width", c.at("conv")},
                     {"delta_chunk", c.at("chunk")}};
  } else {
    model.options = {{"ffn_hidden", c.at("hidden")},       {"monarch_blocks", c.at("blocks")},
                     {"ffn_gated", flag("gated")},         {"ffn_activation", place("ffn_activation", c.at("activation"))},
                     {"monarch_shuffle", flag("shuffle")}, {"monarch_out_bias", flag("out_bias")}};
  }
  const bool mixes_sequence = builtin_layers().find(kind)->mixes_sequence;
  model.layers = {mixes_sequence ? kind + "/none" : "none/" + kind};
  const auto layers = resolve_layers(model);
  BOOST_TEST_REQUIRE(layers.has_value(), (layers ? "" : layers.error().message));
  return mixes_sequence ? *layers->front().mixer : *layers->front().channel;
}

/// Forward and backward of a layer alone, on the script's input and gradient.
void check_layer(const kernels::backend& backend, const json& golden) {
  const layer_shape shape = shape_of(golden);
  tensor_list tensors(1);
  tensors.set_prefix("layer.");
  shape.kind->declare(shape, tensors);
  const parameter_layout& layout = tensors.layout();
  float_array weights(static_cast<std::size_t>(layout.size)), gradients(static_cast<std::size_t>(layout.size));
  fill(layout, "layer.", weights.span());
  const parameter_view<float> parameters{layout, weights.data(), gradients.data()};
  const auto made = make_layer_of<float>(shape, {backend.f32, parameters, "layer.", backend.f32});

  const std::int64_t batch = golden.at("batch"), length = golden.at("length");
  arena counting, counting_shared;
  made->place(batch, length, counting, counting_shared);
  buffer kept_memory(counting.most_used() + 64), shared_memory(counting_shared.most_used() + 64);
  arena kept(kept_memory.bytes()), shared(shared_memory.bytes());
  made->place(batch, length, kept, shared);

  const auto count = static_cast<std::size_t>(batch * length * shape.d_model);
  std::vector<float> x(count), dy(count), y(count), dx(count);
  for (std::size_t i = 0; i < count; ++i) {
    x[i] = static_cast<float>(2 * golden_uniform("x", 1, i));
    dy[i] = static_cast<float>(2 * golden_uniform("dy", 1, i));
  }
  kernels::serial_team team;
  const auto stream = backend.make_stream(team);
  rotary_tables<float> rotary;
  const layer_pass<float> pass{backend.f32, *stream, batch, length, 0, rotary};
  made->forward(pass, x.data(), y.data());
  made->backward(pass, x.data(), dy.data(), dx.data());
  BOOST_TEST(relative_difference(y, golden.at("y").get<std::vector<double>>()) <= 1e-4);
  BOOST_TEST(relative_difference(dx, golden.at("dx").get<std::vector<double>>()) <= 1e-3);
  check_gradients(layout, "layer.", gradients.span(), golden.at("gradients"));
}

model_config config_of(const json& c) {
  model_config m;
  m.vocabulary = c.at("vocabulary");
  m.d_model = c.at("d_model");
  m.layers.assign(c.at("layers").get<std::size_t>(), "attention/mlp");
  m.norm = c.at("norm") == "layer_norm" ? norm_kind::layer_norm : norm_kind::rms_norm;
  m.z_loss = c.at("z_loss");
  const auto words = builtin_layers().find_option("ffn_activation")->words;
  m.options = {{"n_heads", c.at("n_heads")},
               {"n_kv_heads", c.at("n_kv_heads")},
               {"head_dim", c.at("head_dim")},
               {"attention_window", c.at("window")},
               {"ffn_hidden", c.at("ffn_hidden")},
               {"ffn_activation", static_cast<double>(std::ranges::find(words, c.at("activation").get<std::string>()) - words.begin())}};
  for (const auto& [option, key] : {std::pair{"qkv_bias", "qkv_bias"},
                                    {"attention_bidirectional", "both_ways"},
                                    {"attention_out_bias", "out_bias"},
                                    {"ffn_gated", "gated"},
                                    {"ffn_bias", "ffn_bias"}})
    m.options[option] = c.at(key).get<bool>() ? 1 : 0;
  return m;
}

void check_model(const kernels::backend& backend, const json& golden) {
  kernels::serial_team team;
  hybrid_model model(config_of(golden.at("config")), backend, team);
  fill(model.layout(), "", model.weights());
  model.weights_changed();
  const auto ids = golden.at("ids").get<std::vector<std::int32_t>>();
  const double loss = golden.at("loss"), found = model.accumulate({ids, golden.at("rows"), golden.at("context")}, 1);
  BOOST_TEST(std::abs(found - loss) <= 1e-5 * loss, "loss " << found << " against " << loss);
  check_gradients(model.layout(), "", model.gradients(), golden.at("gradients"));
  const auto places = golden.at("positions").get<std::vector<std::int64_t>>();
  for (std::size_t p = 0; p < places.size(); ++p) {
    auto state = model.start();
    const std::span<const std::int32_t> text(ids.data(), golden.at("context").get<std::size_t>());
    const auto logits = sees_ahead(model.config()) ? model.predict(text, std::span(&places[p], 1))
                                                   : model.advance(state, text.first(static_cast<std::size_t>(places[p]) + 1));
    BOOST_TEST(relative_difference(logits, golden.at("logits")[p].get<std::vector<double>>()) <= 1e-4);
  }
}

void check_all(const char* part, void (*check)(const kernels::backend&, const json&)) {
  const json all = read_golden();
  for (const json& golden : all.at(part))
    for (const auto* backend : kernels::backends())
      BOOST_TEST_CONTEXT(golden.at("name") << " on " << backend->name) check(*backend, golden);
}

}  // namespace

BOOST_AUTO_TEST_CASE(layers_equal_pytorch) { check_all("layers", check_layer); }
BOOST_AUTO_TEST_CASE(models_equal_pytorch) { check_all("models", check_model); }

BOOST_AUTO_TEST_SUITE_END()
