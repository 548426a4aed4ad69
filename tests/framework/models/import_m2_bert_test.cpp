#include "framework/core/error.hpp"
#include "framework/formats/hugging_face.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import.hpp"
#include "kernels/select.hpp"
#include "tests/framework/formats/scratch_folder.hpp"
#include "tests/framework/models/golden_values.hpp"
#include "tests/framework/models/their_gradients.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <string_view>

// Against PyTorch: tests/golden/make_m2_bert_golden.py wrote what to expect.
using namespace isthmus;
using namespace isthmus::testing;
using nlohmann::json;

BOOST_AUTO_TEST_SUITE(import_m2_bert)

namespace {

json read_golden() { return json::parse(file_text("tests/golden/hf/m2_bert.json")); }

/// The script's value_of.
float value_of(std::string_view name, std::uint64_t seed, std::int64_t i, std::int64_t count) {
  if (name.ends_with("pos_emb.t")) return static_cast<float>(static_cast<double>(i) / static_cast<double>(count - 1));
  const double u = golden_uniform(name, seed, static_cast<std::uint64_t>(i));
  const auto ends = [&](std::initializer_list<std::string_view> words) {
    return std::ranges::any_of(words, [&](std::string_view word) { return name.ends_with(word); });
  };
  if (ends({"LayerNorm.weight", "layernorm.weight", "filter_fn.bias", "filter_fn2.bias"})) return static_cast<float>(1 + 0.5 * u);
  if (ends({"freq"})) return static_cast<float>(1.5 + u);
  if (ends({"deltas"})) return static_cast<float>(-4 - 6 * u);
  return static_cast<float>((name.find("filter") != name.npos || name.find("pos_emb") != name.npos ? 2 : 1) * u);
}

/// A checkpoint of the golden file's, in memory.
struct checkpoint {
  explicit checkpoint(const json& golden) : config(golden.at("config")), seed(golden.at("seed")) {
    for (const json& t : golden.at("tensors")) add(t.at("name"), t.at("name"), t.at("shape").get<std::vector<std::int64_t>>());
  }
  /// With the numbers of another name.
  void add(const std::string& name, const std::string& as, std::vector<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const auto extent : shape) count *= extent;
    auto& t = tensors.emplace_back(tensor{name, std::move(shape), {}});
    for (std::int64_t i = 0; i < count; ++i) t.values.push_back(value_of(as, seed, i, count));
  }
  expected<imported_model> import() const {
    scratch_folder folder;
    folder.write("config.json", config.dump());
    std::vector<tensor_view> views;
    for (const auto& t : tensors) views.push_back({t.name, dtype::f32, t.shape, std::as_bytes(std::span(t.values))});
    const auto written = write_hugging_face(folder.disk(), ".", views);
    BOOST_TEST_REQUIRE(written.has_value(), (written ? "" : written.error().message));
    return import_hugging_face(folder.path());
  }

  struct tensor {
    std::string name;
    std::vector<std::int64_t> shape;
    std::vector<float> values;
  };
  json config;
  std::uint64_t seed;
  std::vector<tensor> tensors;
};

struct loaded {
  loaded(const imported_model& m, const kernels::backend& backend)
      : gradients(std::make_shared<float_array>(m.weights->size())), model(m.config, backend, team, 2048, m.weights, gradients) {
    model.weights_changed();
  }
  kernels::serial_team team;
  std::shared_ptr<float_array> gradients;
  hybrid_model model;
};

void check_logits(hybrid_model& model, const json& golden, double tolerance) {
  const auto ids = golden.at("ids").get<std::vector<std::int32_t>>();
  const auto places = golden.at("places").get<std::vector<std::int64_t>>();
  const auto logits = model.predict({ids.data(), golden.at("context").get<std::size_t>()}, places);
  const auto vocabulary = static_cast<std::size_t>(model.config().vocabulary);
  BOOST_TEST_REQUIRE(logits.size() == places.size() * vocabulary);
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double e = golden.at("logits")[i / vocabulary][i % vocabulary];
    largest = std::max(largest, std::abs(e));
    difference = std::max(difference, std::abs(e - static_cast<double>(logits[i])));
  }
  BOOST_TEST(difference <= tolerance * largest, "logits are off by " << difference / largest);
}

void check_training(hybrid_model& model, const json& golden) {
  const auto ids = golden.at("ids").get<std::vector<std::int32_t>>(), targets = golden.at("targets").get<std::vector<std::int32_t>>();
  const token_batch batch{ids, golden.at("rows"), golden.at("context"), targets};
  const double found = model.accumulate(batch, 1), loss = golden.at("loss");
  BOOST_TEST(std::abs(found - loss) <= 1e-5 * loss, "loss " << found << " against " << loss);
  BOOST_TEST(std::abs(model.evaluate(batch) - found) <= 1e-6 * loss);
  check_their_gradients(model, golden);
  BOOST_TEST(std::ranges::count_if(golden.at("tensors"), [](const json& t) { return t.contains("norm"); }) ==
             std::ssize(model.layout().slots));
}

std::string refusal(const checkpoint& c) {
  const auto imported = c.import();
  BOOST_TEST_REQUIRE(!imported.has_value());
  BOOST_TEST((imported.error().code == errc::unsupported));
  return imported.error().message;
}

void has(const std::string& text, std::string_view words) { BOOST_TEST(text.find(words) != std::string::npos, text); }

}  // namespace

BOOST_AUTO_TEST_CASE(m2_bert_equals_pytorch) {
  for (const json& golden : read_golden()) {
    auto imported = checkpoint(golden).import();
    BOOST_TEST_REQUIRE(imported.has_value(), (imported ? "" : imported.error().message));
    for (const auto* backend : kernels::backends()) {
      BOOST_TEST_CONTEXT(golden.at("name") << " on " << backend->name) {
        imported->config.precision = precision_kind::fp32;
        loaded m(*imported, *backend);
        check_logits(m.model, golden, 1e-4);
        check_training(m.model, golden);
        imported->config.precision = precision_kind::bf16;
        loaded narrow(*imported, *backend);
        check_logits(narrow.model, golden, 0.1);  // no residual past the mixers carries fp32 on
      }
    }
  }
}

/// Masked language modelling, by plain gradient descent.
BOOST_AUTO_TEST_CASE(what_is_imported_trains_on_masked_tokens) {
  const json golden = read_golden().front();
  const auto imported = checkpoint(golden).import();
  BOOST_TEST_REQUIRE(imported.has_value());
  loaded m(*imported, kernels::default_backend());
  const auto ids = golden.at("ids").get<std::vector<std::int32_t>>(), targets = golden.at("targets").get<std::vector<std::int32_t>>();
  const token_batch batch{ids, golden.at("rows"), golden.at("context"), targets};
  const double before = m.model.evaluate(batch);
  for (int step = 0; step < 20; ++step) {
    std::ranges::fill(m.model.gradients(), 0.0F);
    m.model.accumulate(batch, 1);
    std::ranges::transform(m.model.weights(), m.model.gradients(), m.model.weights().begin(),
                           [](float w, float g) { return w - 0.002F * g; });
    m.model.weights_changed();
  }
  const double after = m.model.evaluate(batch);
  BOOST_TEST(after < 0.7 * before, "the loss went from " << before << " to " << after);
}

/// As savers leave them that write a shared tensor once for each of its names.
BOOST_AUTO_TEST_CASE(copies_of_shared_tensors_must_be_equal) {
  const json golden = read_golden().front();
  checkpoint c(golden);
  const std::string filter = "bert.encoder.layer.1.attention.filter_fn2.", freq = filter + "implicit_filter.1.freq",
                    words = "bert.embeddings.word_embeddings.weight";
  for (const char* copy : {"implicit_filter.3.freq", "implicit_filter_rev.1.freq", "implicit_filter_rev.5.freq"})
    c.add(filter + copy, freq, {1, 8});
  c.add("cls.predictions.decoder.weight", words, {61, 32});
  c.add("bert.embeddings.position_ids", "bert.embeddings.position_ids", {1, 24});
  const auto imported = c.import();
  BOOST_TEST_REQUIRE(imported.has_value(), (imported ? "" : imported.error().message));
  c.tensors.back().values.front() = 7;  // nobody's business
  BOOST_TEST(c.import().has_value());
  auto other = c;
  other.tensors[other.tensors.size() - 2].values[5] += 1;
  has(refusal(other), "\"cls.predictions.decoder.weight\" differs from \"bert.embeddings.word_embeddings.weight\"");
  c.tensors[c.tensors.size() - 3].values[5] += 1;
  has(refusal(c), "implicit_filter_rev.5.freq\" differs from");
}

/// Never a model that is nearly the one described.
BOOST_AUTO_TEST_CASE(what_no_model_of_ours_has_is_refused_by_name) {
  const checkpoint good(read_golden().front());
  auto c = good;
  c.config["architectures"] = {"BertForTextEncoding"};
  has(refusal(c), "BertForTextEncoding has a pooler");
  c = good;
  c.config["layer_norm_eps"] = 1e-5;
  has(refusal(c), "layer_norm_eps");
  c = good;
  c.config["hyena_spin"] = 2;
  has(refusal(c), "hyena_spin");
  c = good;
  c.add("bert.encoder.layer.0.attention.extra", "extra", {2});
  has(refusal(c), "\"bert.encoder.layer.0.attention.extra\" is no tensor of the model");
  c = good;
  for (auto& t : c.tensors)
    if (t.name.ends_with("pos_emb.t")) t.values[3] += 0.01F;
  has(refusal(c), "pos_emb.t\" has 0.14");
}

BOOST_AUTO_TEST_CASE(texts_end_where_positions_do) {
  const auto imported = checkpoint(read_golden().front()).import();
  BOOST_TEST_REQUIRE(imported.has_value());
  loaded m(*imported, kernels::default_backend());
  BOOST_TEST(sees_ahead(m.model.config()));
  const std::vector<std::int32_t> ids(25, 1);
  const std::vector<std::int64_t> places{0, 24}, beyond{24};
  BOOST_CHECK_THROW(m.model.predict(ids, places), contract_error);
  BOOST_CHECK_THROW(m.model.predict({ids.data(), 24}, beyond), contract_error);
  BOOST_CHECK_THROW(m.model.evaluate({ids, 1, 25, ids}), contract_error);
  auto state = m.model.start();
  BOOST_CHECK_THROW(m.model.advance(state, {ids.data(), 2}), contract_error);
}

BOOST_AUTO_TEST_SUITE_END()
