#include "framework/layers/gated_delta_net/delta_rule.hpp"
#include "kernels/stealing_team.hpp"
#include "tests/framework/models/golden_values.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>
#include <string_view>

// Against Transformers: tests/golden/make_delta_rule_golden.py wrote what to expect.
using namespace isthmus;

BOOST_AUTO_TEST_SUITE(delta_rules)

namespace {

std::vector<double> draw(std::string_view name, std::int64_t count, double scale = 0.75, double offset = 0) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < count; ++i)
    values.push_back(offset + scale * testing::golden_uniform(name, 1, static_cast<std::uint64_t>(i)));
  return values;
}

}  // namespace

BOOST_AUTO_TEST_CASE(outputs_and_states_equal_transformers) {
  std::ifstream file("tests/golden/delta_rule.json");
  const auto golden = nlohmann::json::parse(file);
  const std::int64_t batch = golden.at("batch"), length = golden.at("length"), heads = golden.at("heads"), key = golden.at("key_dim"),
                     value = golden.at("value_dim"), rows = batch * length, stride = heads * (value + 2);
  const auto q = draw("q", rows * heads * key), k = draw("k", rows * heads * key), v = draw("v", rows * heads * value);
  const auto z = draw("z", rows * heads * value), beta = draw("beta", rows * heads), alpha = draw("alpha", rows * heads);
  const auto a_log = draw("x.A_log", heads, 2, 1), dt_bias = draw("x.dt_bias", heads, 2, -2), gain = draw("norm.weight", value, 0.5, 1);
  std::vector<double> qkv, gates;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (const auto* part : {&q, &k}) qkv.insert(qkv.end(), part->begin() + r * heads * key, part->begin() + (r + 1) * heads * key);
    qkv.insert(qkv.end(), v.begin() + r * heads * value, v.begin() + (r + 1) * heads * value);
    gates.insert(gates.end(), z.begin() + r * heads * value, z.begin() + (r + 1) * heads * value);
    for (const auto* part : {&beta, &alpha}) gates.insert(gates.end(), part->begin() + r * heads, part->begin() + (r + 1) * heads);
  }
  std::vector<double> y(static_cast<std::size_t>(rows * heads * value)), state(static_cast<std::size_t>(batch * heads * key * value));
  kernels::stealing_team team(3);
  kernels::stream s(team);
  delta_rule<double>(s, {.qkv = qkv.data(),
                         .z = gates.data(),
                         .beta = gates.data() + heads * value,
                         .alpha = gates.data() + heads * (value + 1),
                         .a_log = a_log.data(),
                         .dt_bias = dt_bias.data(),
                         .gain = gain.data(),
                         .y = y.data(),
                         .states = nullptr,
                         .state = state.data(),
                         .batch = batch,
                         .length = length,
                         .heads = heads,
                         .key_dim = key,
                         .value_dim = value,
                         .chunk = 4,
                         .stride = stride,
                         .eps = golden.at("eps")});
  for (std::size_t i = 0; i < y.size(); ++i) BOOST_TEST(std::abs(y[i] - golden.at("y")[i].get<double>()) < 2e-9);
  for (std::size_t i = 0; i < state.size(); ++i) BOOST_TEST(std::abs(state[i] - golden.at("state")[i].get<double>()) < 2e-9);
}

BOOST_AUTO_TEST_SUITE_END()
