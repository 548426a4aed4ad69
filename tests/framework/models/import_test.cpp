#include "framework/formats/hugging_face.hpp"
#include "framework/models/generate.hpp"
#include "framework/models/import.hpp"
#include "kernels/select.hpp"
#include "tests/framework/formats/scratch_folder.hpp"
#include "tests/framework/models/golden_values.hpp"
#include "tests/framework/models/their_gradients.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string_view>

// Against Transformers: tests/golden/make_hf_golden.py wrote what to expect; of StripedHyena, which it does not have, make_stripedhyena_golden.py.
using namespace isthmus;
using namespace isthmus::testing;
using nlohmann::json;

BOOST_AUTO_TEST_SUITE(import_golden)

namespace {

/// The script's value_of.
float value_of(std::string_view name, std::uint64_t seed, std::uint64_t i) {
  const double u = golden_uniform(name, seed, i);
  const auto ends = [&](std::initializer_list<std::string_view> words) {
    return std::ranges::any_of(words, [&](std::string_view word) { return name.ends_with(word); });
  };
  if (ends({"norm.weight", "norm_f.weight", "layernorm.weight", "norm.scale", ".D"})) return static_cast<float>(1 + 0.5 * u);
  if (ends({"A_log"})) return static_cast<float>(1 + 2 * u);
  if (ends({"dt_bias", "dt_proj.bias"})) return static_cast<float>(-2 + 2 * u);
  if (ends({"poles"})) return static_cast<float>(1.3 * u);
  if (name.find("embed") != name.npos || name.find("conv1d") != name.npos || ends({"lm_head.weight", "short_filter_weight"}))
    return static_cast<float>(u);
  return static_cast<float>(0.75 * u);
}

/// Changes the numbers of a tensor by its name.
using tensor_change = std::function<void(const std::string&, std::vector<float>&)>;

/// The checkpoint that the golden file tells of, as a folder.
void write_checkpoint(const json& golden, scratch_folder& folder, const tensor_change& change = {}) {
  folder.write("config.json", golden.at("config").dump());
  std::vector<std::vector<float>> numbers;
  std::vector<tensor_view> views;
  for (const json& t : golden.at("tensors")) {
    const auto shape = t.at("shape").get<std::vector<std::int64_t>>();
    std::int64_t count = 1;
    for (const auto extent : shape) count *= extent;
    auto& values = numbers.emplace_back();
    if (t.contains("numbers")) values = t.at("numbers").get<std::vector<float>>();
    for (std::int64_t i = std::ssize(values); i < count; ++i)
      values.push_back(value_of(t.at("name").get<std::string>(), golden.at("seed"), static_cast<std::uint64_t>(i)));
    if (change) change(t.at("name"), values);
    views.push_back({t.at("name"), dtype::f32, shape, std::as_bytes(std::span(values))});
  }
  const auto written = write_hugging_face(folder.disk(), ".", views);
  BOOST_TEST_REQUIRE(written.has_value(), (written ? "" : written.error().message));
}

struct loaded {
  loaded(const imported_model& m, const kernels::backend& backend)
      : gradients(std::make_shared<float_array>(m.weights->size())), model(m.config, backend, team, 2048, m.weights, gradients) {
    model.weights_changed();
  }
  kernels::serial_team team;
  std::shared_ptr<float_array> gradients;
  hybrid_model model;
};

void check_logits(hybrid_model& model, const json& golden) {
  const auto ids = golden.at("ids").get<std::vector<std::int32_t>>();
  for (std::size_t p = 0; p < golden.at("positions").size(); ++p) {
    const std::size_t row = golden.at("positions")[p][0], at = golden.at("positions")[p][1],
                      width = golden.at("context").get<std::size_t>() + 1;
    auto state = model.start();
    const auto logits = model.advance(state, {ids.data() + row * width, at + 1});
    double largest = 0, difference = 0;
    for (std::size_t v = 0; v < logits.size(); ++v) {
      const double e = golden.at("logits")[p][v];
      largest = std::max(largest, std::abs(e));
      difference = std::max(difference, std::abs(e - static_cast<double>(logits[v])));
    }
    BOOST_TEST(difference <= 1e-4 * largest, "logits of row " << row << " at " << at << " are off by " << difference / largest);
  }
}

void check_training(hybrid_model& model, const json& golden) {
  const auto ids = golden.at("ids").get<std::vector<std::int32_t>>();
  const double found = model.accumulate({ids, golden.at("rows"), golden.at("context")}, 1), loss = golden.at("loss");
  BOOST_TEST(std::abs(found - loss) <= 1e-4 * loss, "loss " << found << " against " << loss);
  check_their_gradients(model, golden);
}

void check_architecture(const char* name) {
  const json golden = json::parse(file_text(std::string("tests/golden/hf/") + name + ".json"));
  scratch_folder folder;
  write_checkpoint(golden, folder);
  const auto imported = import_hugging_face(folder.path());
  BOOST_TEST_REQUIRE(imported.has_value(), (imported ? "" : imported.error().message));
  for (const auto* backend : kernels::backends()) {
    BOOST_TEST_CONTEXT(name << " on " << backend->name) {
      loaded m(*imported, *backend);
      check_logits(m.model, golden);
      check_training(m.model, golden);
      const auto prompt = golden.at("prompt").get<std::vector<std::int32_t>>();
      const auto continued = generate(m.model, prompt, {.tokens_max = 64, .temperature = 0});
      BOOST_TEST(continued == golden.at("continuation").get<std::vector<std::int32_t>>(), boost::test_tools::per_element());
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(llama_equals_transformers) { check_architecture("llama"); }
BOOST_AUTO_TEST_CASE(mistral_equals_transformers) { check_architecture("mistral"); }
BOOST_AUTO_TEST_CASE(mamba_equals_transformers) { check_architecture("mamba"); }
BOOST_AUTO_TEST_CASE(mamba2_equals_transformers) { check_architecture("mamba2"); }
BOOST_AUTO_TEST_CASE(mamba2_of_two_groups_equals_transformers) { check_architecture("mamba2_groups"); }
BOOST_AUTO_TEST_CASE(bamba_equals_transformers) { check_architecture("bamba"); }

BOOST_AUTO_TEST_CASE(mistral_with_gelu_by_tanh_equals_transformers) { check_architecture("mistral_gelu_tanh"); }
BOOST_AUTO_TEST_CASE(bamba_with_biases_equals_transformers) { check_architecture("bamba_mlp_bias"); }

BOOST_AUTO_TEST_CASE(nemotron_h_equals_transformers) { check_architecture("nemotron_h"); }
BOOST_AUTO_TEST_CASE(nemotron_h_with_experts_equals_transformers) { check_architecture("nemotron_h_moe"); }
BOOST_AUTO_TEST_CASE(mixtral_equals_transformers) { check_architecture("mixtral"); }
BOOST_AUTO_TEST_CASE(granite_with_experts_equals_transformers) { check_architecture("granitemoehybrid"); }
BOOST_AUTO_TEST_CASE(jamba_equals_transformers) { check_architecture("jamba"); }
BOOST_AUTO_TEST_CASE(striped_hyena_equals_its_definition) { check_architecture("stripedhyena"); }
BOOST_AUTO_TEST_CASE(striped_hyena_saved_by_itself_equals_its_definition) { check_architecture("stripedhyena_plain"); }
BOOST_AUTO_TEST_CASE(dense_granite_equals_transformers) { check_architecture("granite_dense"); }

/// Never a model that is nearly the one described.
BOOST_AUTO_TEST_CASE(what_no_layer_of_ours_does_is_refused_by_name) {
  const auto refusal = [](const char* name, const char* key, const json& value) {
    json golden = json::parse(file_text(std::string("tests/golden/hf/") + name + ".json"));
    golden["config"][key] = value;
    scratch_folder folder;
    write_checkpoint(golden, folder);
    const auto imported = import_hugging_face(folder.path());
    BOOST_TEST_REQUIRE(!imported.has_value());
    BOOST_TEST((imported.error().code == errc::unsupported));
    return imported.error().message;
  };
  const auto says = [&](const char* name, const char* key, const json& value, const char* words) {
    const auto message = refusal(name, key, value);
    BOOST_TEST(message.find(words) != std::string::npos, name << ": " << message);
  };
  says("nemotron_h_moe", "norm_topk_prob", false, "in layer 1 a router of experts whose sigmoids do not add up to 1");
  says("nemotron_h_moe", "n_group", 2, "in layer 1 a router that chooses among groups of experts");
  says("stripedhyena", "smeared_gqa", true, "smeared_gqa");
  says("stripedhyena", "use_flash_rmsnorm", false, "use_flash_rmsnorm");
  says("stripedhyena", "long_fir_threshold", 128, "long_fir_threshold");
  says("stripedhyena", "final_norm", false, "norms other than RMS norms");
  says("stripedhyena", "rotary_emb_base", 10000, "inv_freq\" holds other frequencies than rotary_emb_base 10000 gives");
  says("mamba2", "use_conv_bias", false, "in layer 0 Mamba-2 without a bias of its convolution");
}

BOOST_AUTO_TEST_CASE(damaged_folders_are_refused) {
  const json golden = json::parse(file_text("tests/golden/hf/llama.json"));
  const auto message = [&](auto change) {
    scratch_folder folder;
    json wrong = golden;
    change(wrong, folder);
    const auto imported = import_hugging_face(folder.path());
    BOOST_TEST_REQUIRE(!imported.has_value());
    return imported.error().message;
  };
  const auto has = [](const std::string& text, const char* words) { BOOST_TEST(text.find(words) != std::string::npos, text); };
  has(message([](json&, scratch_folder&) {}), "config.json");
  has(message([](json& j, scratch_folder& f) { f.write("config.json", j.at("config").dump()); }), "model.safetensors");
  has(message([](json& j, scratch_folder& f) {
        j["tensors"].erase(j["tensors"].begin());
        write_checkpoint(j, f);
      }),
      "lm_head.weight");
  has(message([](json& j, scratch_folder& f) {
        j["config"]["hidden_size"] = 48;
        write_checkpoint(j, f);
      }),
      "[");
  has(message([](json& j, scratch_folder& f) {
        j["tensors"].push_back({{"name", "model.layers.7.extra"}, {"shape", {2}}});
        write_checkpoint(j, f);
      }),
      ": tensor \"model.layers.7.extra\" [2] is none that config.json tells of, 1 of 22 are not");
}

/// Not a number would be found in every text that such a model writes.
BOOST_AUTO_TEST_CASE(weights_that_are_not_finite_are_refused_with_their_place) {
  const auto refusal = [](const char* golden_name, const char* tensor, std::size_t place, float value) {
    const json golden = json::parse(file_text(std::string("tests/golden/hf/") + golden_name + ".json"));
    scratch_folder folder;
    write_checkpoint(golden, folder, [&](const std::string& name, std::vector<float>& values) {
      if (name == tensor) values.at(place) = value;
    });
    const auto imported = import_hugging_face(folder.path());
    BOOST_TEST_REQUIRE(!imported.has_value());
    BOOST_TEST((imported.error().code == errc::not_finite));
    return imported.error().message;
  };
  const auto says = [](const std::string& message, const char* words) { BOOST_TEST(message.find(words) != std::string::npos, message); };
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  says(refusal("llama", "model.norm.weight", 0, nan), "model.safetensors: tensor \"model.norm.weight\" holds nan at [0]");
  says(refusal("llama", "model.layers.1.self_attn.q_proj.weight", 33, infinity),
       "tensor \"model.layers.1.self_attn.q_proj.weight\" holds inf at [1, 1], and weights must be finite numbers");
  says(refusal("granitemoehybrid", "model.layers.0.block_sparse_moe.input_linear.weight", 5, -infinity), "holds -inf at [0, 0, 5]");
}

BOOST_AUTO_TEST_SUITE_END()
