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

namespace {

/// One sequence in double: [qkv | z | beta | alpha] of each row, from a state, with gradients of outputs and of the final state.
struct one_sequence {
  static constexpr std::int64_t length = 11, heads = 2, key = 3, value = 4, chunk = 4, qkv = heads * (2 * key + value);
  static constexpr std::int64_t gates = heads * (value + 2), out = heads * value, size = heads * key * value;
  std::vector<double> x = draw("x", length*qkv, 2), g = draw("g", length*gates, 2), a_log = draw("a", heads), dt_bias = draw("dt", heads);
  std::vector<double> gain = draw("gain", value, 0.5, 1), initial = draw("s", size, 1), dy = draw("dy", length*out, 2);
  std::vector<double> d_final = draw("ds", size, 2), y = std::vector<double>(static_cast<std::size_t>(length * out));
  std::vector<double> states = std::vector<double>(static_cast<std::size_t>(length * size));
  kernels::serial_team team;
  kernels::stream s{team};

  struct gradients {
    std::vector<double> x, g, a_log, dt_bias, gain, initial;
  };
  gradients fresh() const {
    const auto like = [](const std::vector<double>& v) { return std::vector<double>(v.size()); };
    return {like(x), like(g), like(a_log), like(dt_bias), like(gain), like(initial)};
  }
  delta_rule_args<double> args(std::int64_t first, std::int64_t rows, double* state) {
    const double* gate = g.data() + first * gates;
    return {.qkv = x.data() + first * qkv,
            .z = gate,
            .beta = gate + out,
            .alpha = gate + out + heads,
            .a_log = a_log.data(),
            .dt_bias = dt_bias.data(),
            .gain = gain.data(),
            .y = y.data() + first * out,
            .states = states.data(),
            .state = state,
            .batch = 1,
            .length = rows,
            .heads = heads,
            .key_dim = key,
            .value_dim = value,
            .chunk = chunk,
            .stride = gates,
            .eps = 1e-5};
  }
  /// Moves the state on.
  void forward(std::int64_t first, std::int64_t rows, std::vector<double>& state) { delta_rule(s, args(first, rows, state.data())); }
  /// d_state: of the final state, then of the initial one.
  void backward(std::int64_t first, std::int64_t rows, std::vector<double>& d_state, gradients& d) {
    double* gate = d.g.data() + first * gates;
    delta_rule_backward<double>(s, args(first, rows, nullptr),
                                {.dy = dy.data() + first * out,
                                 .d_qkv = d.x.data() + first * qkv,
                                 .dz = gate,
                                 .d_beta = gate + out,
                                 .d_alpha = gate + out + heads,
                                 .d_a_log = d.a_log.data(),
                                 .d_dt_bias = d.dt_bias.data(),
                                 .d_gain = d.gain.data(),
                                 .d_final = d_state.data(),
                                 .d_initial = d_state.data()});
  }
  gradients whole() {
    gradients d = fresh();
    auto state = initial;
    forward(0, length, state);
    d.initial = d_final;
    backward(0, length, d.initial, d);
    return d;
  }
  double loss() {
    auto state = initial;
    forward(0, length, state);
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += y[i] * dy[i];
    for (std::size_t i = 0; i < state.size(); ++i) sum += state[i] * d_final[i];
    return sum;
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(gradients_through_a_carried_state_agree_with_central_differences) {
  one_sequence r;
  const auto d = r.whole();
  const auto check = [&](const char* what, std::vector<double>& value, const std::vector<double>& gradient) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      const double at = value[i], step = 1e-5;
      value[i] = at + step;
      const double above = r.loss();
      value[i] = at - step;
      const double expected = (above - r.loss()) / (2 * step);
      value[i] = at;
      BOOST_TEST(std::abs(gradient[i] - expected) <= 1e-7 * (1 + std::abs(expected)),
                 what << "[" << i << "]: " << gradient[i] << " against " << expected);
    }
  };
  check("qkv", r.x, d.x);
  check("z, beta, alpha", r.g, d.g);
  check("a_log", r.a_log, d.a_log);
  check("dt_bias", r.dt_bias, d.dt_bias);
  check("gain", r.gain, d.gain);
  check("initial", r.initial, d.initial);
}

BOOST_AUTO_TEST_CASE(the_gradient_of_a_sequence_is_that_of_its_pieces_chained) {
  one_sequence r;
  const auto whole = r.whole();
  const std::int64_t cut = 6;
  auto d = r.fresh();
  auto state = r.initial, d_state = r.d_final;
  r.forward(0, cut, state);
  r.forward(cut, r.length - cut, state);
  r.backward(cut, r.length - cut, d_state, d);
  state = r.initial;
  r.forward(0, cut, state);
  r.backward(0, cut, d_state, d);
  d.initial = d_state;
  for (const auto& [found, expected] : {std::pair{&d.x, &whole.x},
                                        {&d.g, &whole.g},
                                        {&d.a_log, &whole.a_log},
                                        {&d.dt_bias, &whole.dt_bias},
                                        {&d.gain, &whole.gain},
                                        {&d.initial, &whole.initial}})
    for (std::size_t i = 0; i < found->size(); ++i)
      BOOST_TEST(std::abs((*found)[i] - (*expected)[i]) < 1e-12 * (1 + std::abs((*expected)[i])));
}

BOOST_AUTO_TEST_SUITE_END()
