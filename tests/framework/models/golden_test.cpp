#include "framework/core/rng.hpp"
#include "framework/models/hybrid_model.hpp"
#include "kernels/select.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>
#include <string_view>

// Against PyTorch: tests/golden/make_model_golden.py and make_medusa_golden.py wrote what to expect.
using namespace isthmus;
using nlohmann::json;

BOOST_AUTO_TEST_SUITE(golden)

namespace {

json read_golden(const char* path) {
  std::ifstream file(path);
  BOOST_REQUIRE_MESSAGE(file, path << " cannot be read");
  return json::parse(file);
}

model_config config_of(const json& j) {
  model_config c;
  c.layers.clear();
  for (const char kind : j.at("layers").get<std::string>()) c.layers.emplace_back(kind == 'a' ? "attention" : "mamba2");
  c.vocabulary = j.at("vocabulary");
  c.d_model = j.at("d_model");
  for (const char* key : {"n_heads", "n_kv_heads", "head_dim", "rope_theta", "ffn_hidden", "ssm_inner", "ssm_head_dim", "ssm_state",
                          "ssm_groups", "conv_width", "ssm_chunk"})
    c.options[key] = j.at(key);
  c.medusa_heads = j.value("medusa_heads", 0);
  c.document_mark = j.value("document_mark", -1);
  return c;
}

/// The script's weight_of.
float weight_of(std::size_t slot, std::string_view name, std::int64_t i) {
  const std::uint64_t key = ((static_cast<std::uint64_t>(slot) + 1) << 32) + static_cast<std::uint64_t>(i);
  const double u = static_cast<double>(mix64(key) >> 40) / 0x1p24 - 0.5;
  if (name.ends_with("norm.weight") || name.ends_with(".D")) return static_cast<float>(1 + 0.5 * u);
  if (name.ends_with("A_log")) return static_cast<float>(1 + 2 * u);
  if (name.ends_with("dt_bias")) return static_cast<float>(-2 + 2 * u);
  if (name.ends_with("embed_tokens.weight") || name.find("conv1d") != name.npos) return static_cast<float>(u);
  return static_cast<float>(0.5 * u);
}

void fill_weights(hybrid_model& model) {
  for (std::size_t s = 0; s < model.layout().slots.size(); ++s) {
    const auto& slot = model.layout().slots[s];
    for (std::int64_t i = 0; i < slot.count; ++i) model.weights()[static_cast<std::size_t>(slot.offset + i)] = weight_of(s, slot.name, i);
  }
  model.weights_changed();
}

struct tolerances {
  double loss, logits, gradient_norms, gradients;
};

void check_gradients(hybrid_model& model, const json& expected, const tolerances& t) {
  BOOST_REQUIRE(expected.size() == model.layout().slots.size());
  for (std::size_t s = 0; s < expected.size(); ++s) {
    const auto& slot = model.layout().slots[s];
    const json& e = expected[s];
    BOOST_TEST(e.at("name").get<std::string>() == slot.name);
    const auto found = std::span<const float>(model.gradients()).subspan(static_cast<std::size_t>(slot.offset));
    double squares = 0;
    for (std::int64_t i = 0; i < slot.count; ++i) squares += std::pow(static_cast<double>(found[static_cast<std::size_t>(i)]), 2);
    const double norm = e.at("norm"), typical = norm / std::sqrt(static_cast<double>(slot.count));
    BOOST_TEST(std::abs(std::sqrt(squares) - norm) <= t.gradient_norms * norm,
               slot.name << ": norm " << std::sqrt(squares) << " against " << norm);
    for (std::size_t k = 0; k < e.at("picks").size(); ++k) {
      const double value = e.at("values")[k], mine = static_cast<double>(found[e.at("picks")[k].get<std::size_t>()]);
      BOOST_TEST(std::abs(mine - value) <= t.gradients * (std::abs(value) + typical),
                 slot.name << " element " << e.at("picks")[k] << ": " << mine << " against " << value);
    }
  }
}

void check_logits(std::span<const float> found, const json& expected, const tolerances& t) {
  BOOST_REQUIRE(found.size() == expected.size());
  double largest = 0, difference = 0;
  for (std::size_t v = 0; v < found.size(); ++v) {
    const double e = expected[v];
    largest = std::max(largest, std::abs(e));
    difference = std::max(difference, std::abs(e - static_cast<double>(found[v])));
  }
  BOOST_TEST(difference <= t.logits * largest, "logits are off by " << difference / largest);
}

void compare(const char* path, const kernels::backend& backend, precision_kind precision, const tolerances& t) {
  for (const json& j : read_golden(path)) {
    BOOST_TEST_CONTEXT(backend.name << ", " << j.at("name")) {
      model_config config = config_of(j.at("config"));
      config.precision = precision;
      kernels::serial_team team;
      hybrid_model model(config, backend, team);
      fill_weights(model);
      const auto ids = j.at("ids").get<std::vector<std::int32_t>>();
      const token_batch batch{ids, j.at("rows"), j.at("context")};
      const double loss = j.at("loss"), found = model.accumulate(batch, 1);
      BOOST_TEST(std::abs(found - loss) <= t.loss * loss, "loss " << found << " against " << loss);
      BOOST_TEST(std::abs(model.evaluate(batch) - found) <= 1e-6 * loss);
      check_gradients(model, j.at("gradients"), t);
      for (std::size_t p = 0; p < j.at("positions").size(); ++p) {
        sequence_state state = model.start();
        BOOST_TEST_CONTEXT("at " << j.at("positions")[p]) {
          const auto read = j.at("positions")[p].get<std::size_t>() + 1;
          check_logits(model.advance(state, {ids.data(), read}), j.at("logits")[p], t);
          if (config.medusa_heads > 0) check_logits(model.head_logits(static_cast<std::int64_t>(read) - 1), j.at("head_logits")[p], t);
        }
      }
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(fp32_equals_pytorch) {
  for (const auto* b : kernels::backends()) compare("tests/golden/model_golden.json", *b, precision_kind::fp32, {1e-5, 1e-4, 1e-3, 1e-3});
}
BOOST_AUTO_TEST_CASE(bf16_stays_near_pytorch) {
  for (const auto* b : kernels::backends()) compare("tests/golden/model_golden.json", *b, precision_kind::bf16, {1e-2, 0.05, 0.05, 0.5});
}
BOOST_AUTO_TEST_CASE(medusa_heads_equal_pytorch) {
  for (const auto* b : kernels::backends()) {
    compare("tests/golden/medusa_golden.json", *b, precision_kind::fp32, {1e-5, 1e-4, 1e-3, 1e-3});
    compare("tests/golden/medusa_golden.json", *b, precision_kind::bf16, {1e-2, 0.05, 0.05, 0.5});
  }
}

BOOST_AUTO_TEST_SUITE_END()
