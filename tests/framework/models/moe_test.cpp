#include "framework/layers/catalog.hpp"
#include "framework/optim/adamw.hpp"
#include "kernels/select.hpp"
#include "kernels/reference/backend.hpp"
#include "kernels/stealing_team.hpp"
#include "tests/framework/models/model_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(mixtures_of_experts)

namespace {

/// One mixture alone, in double.
struct alone {
  explicit alone(layer_options said) {
    shape.kind = builtin_layers().find("moe");
    shape.options = {{"moe_experts", 5}, {"moe_active", 2}, {"moe_hidden", 16}};
    for (const auto& [key, value] : said) shape.options[key] = value;
    for (const auto& field : shape.kind->options) shape.options.emplace(field.key, field.initial);
    shape.d_model = d;
    shape.n_layers = 1;
    tensor_list tensors(1);
    shape.kind->declare(shape, tensors);
    layout = tensors.layout();
    rng random(1, 0, 0, draw::sampling);
    weights.resize(static_cast<std::size_t>(layout.size));
    for (auto& w : weights) w = 0.4 * random.normal();
    gradients.resize(weights.size());
    for (auto* values : {&x, &dy}) {
      values->resize(static_cast<std::size_t>(rows * d));
      for (auto& v : *values) v = random.normal();
    }
    y = dx = x;
    const parameter_view<double> view{layout, weights.data(), gradients.data()};
    made = shape.kind->make_f64(shape, {ops, view, "", ops});
    arena counting, shared_counting;
    made->place(1, rows, counting, shared_counting);
    kept.resize(counting.most_used());
    shared.resize(shared_counting.most_used());
    arena k(kept), s(shared);
    made->place(1, rows, k, s);
  }

  layer_pass<double> pass(double loss_scale) { return {ops, stream, 1, rows, 0, rotary, nullptr, loss_scale}; }
  /// The token loss, here y along dy, and the mixture's own, from its definition: their sum, the latter once a token and times scale.
  double objective(double scale, double balance, double z) {
    made->weights_changed();
    made->forward(pass(0), x.data(), y.data());
    const double* router = weights.data() + layout.slots.front().offset;
    std::vector<double> shares(experts), means(experts);
    double squares = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      std::vector<double> p(experts);
      for (std::size_t e = 0; e < experts; ++e)
        p[e] = std::exp(std::inner_product(router + static_cast<std::int64_t>(e) * d, router + static_cast<std::int64_t>(e + 1) * d,
                                           x.begin() + r * d, 0.0));
      const double sum = std::accumulate(p.begin(), p.end(), 0.0);
      squares += std::log(sum) * std::log(sum);
      std::vector<std::size_t> order(experts);
      std::iota(order.begin(), order.end(), 0U);
      std::ranges::sort(order, [&](auto a, auto b) { return p[a] > p[b]; });
      for (std::size_t j = 0; j < 2; ++j) shares[order[j]] += 1.0 / rows;
      for (std::size_t e = 0; e < experts; ++e) means[e] += p[e] / sum / rows;
    }
    const double own = balance * experts * std::inner_product(shares.begin(), shares.end(), means.begin(), 0.0) + z * squares / rows;
    return std::inner_product(y.begin(), y.end(), dy.begin(), 0.0) + scale * rows * own;
  }

  static constexpr std::int64_t rows = 9, d = 16;
  static constexpr std::size_t experts = 5;
  layer_shape shape;
  parameter_layout layout;
  const kernels::op_table<double>& ops = kernels::reference_double_ops();
  kernels::serial_team team;
  kernels::stream stream{team};
  rotary_tables<double> rotary;
  std::vector<double> weights, gradients, x, dy, y, dx;
  std::vector<std::byte> kept, shared;
  std::unique_ptr<layer<double>> made;
};

void check_place(double& value, double found, const std::function<double()>& loss, const std::string& what) {
  const double at = value, step = 1e-5;
  value = at + step;
  const double above = loss();
  value = at - step;
  const double below = loss();
  value = at;
  const double expected = (above - below) / (2 * step);
  BOOST_TEST(std::abs(found - expected) <= 1e-6 * (1 + std::abs(expected)), what << ": " << found << " against " << expected);
}

}  // namespace

// Token losses are multiplied by a scale before backward sees them; the router's own losses must be multiplied by the same one, a time
// for each token.
BOOST_AUTO_TEST_CASE(losses_of_the_router_follow_the_scale_of_the_token_losses) {
  const double balance = 0.7, z = 0.3;
  for (const double scale : {1.0, 0.05}) {
    alone m({{"moe_balance", balance}, {"moe_z_loss", z}});
    m.objective(scale, balance, z);
    m.made->backward(m.pass(scale), m.x.data(), m.dy.data(), m.dx.data());
    const auto loss = [&] { return m.objective(scale, balance, z); };
    for (const auto& slot : m.layout.slots)
      for (std::int64_t i = 0; i < slot.count; i += slot.count / 7 + 1) {
        const auto at = static_cast<std::size_t>(slot.offset + i);
        check_place(m.weights[at], m.gradients[at], loss, slot.name + " at scale " + std::to_string(scale));
      }
    for (std::size_t i = 0; i < m.x.size(); i += 11) check_place(m.x[i], m.dx[i], loss, "x");
  }
}

// A step of decoding reads the experts that its token chose: the others hold no numbers.
BOOST_AUTO_TEST_CASE(a_step_reads_the_chosen_experts_alone) {
  auto config = tiny_config("a");
  config.layers = {"attention/moe"};
  for (const auto* backend : {&kernels::reference_backend(), &kernels::default_backend()}) {
    kernels::serial_team team;
    hybrid_model model(config, *backend, team);
    std::ranges::copy(shaken_weights(config, 3), model.weights().begin());
    for (const auto& slot : model.layout().slots)
      if (slot.name.find("router") != std::string::npos)  // the first of equals: experts 0 and 1
        std::fill_n(model.weights().begin() + slot.offset, slot.count, 0.0F);
      else if (slot.name.find("experts.") != std::string::npos && slot.name.find("experts.0.") == std::string::npos &&
               slot.name.find("experts.1.") == std::string::npos)
        std::fill_n(model.weights().begin() + slot.offset, slot.count, std::numeric_limits<float>::quiet_NaN());
    model.weights_changed();
    auto state = model.start();
    const std::int32_t id = 5;
    for (const float logit : model.advance(state, {&id, 1})) BOOST_REQUIRE(std::isfinite(logit));
  }
}

BOOST_AUTO_TEST_CASE(results_do_not_depend_on_the_number_of_threads) {
  for (const auto precision : {precision_kind::fp32, precision_kind::bf16}) {
    auto config = with_experts(tiny_config("ama"));
    config.options["moe_balance"] = 0.1;
    config.precision = precision;
    const auto ids = random_ids(1, 4 * 101, config.vocabulary);  // enough for experts of more than 64 tokens
    for (const auto* backend : kernels::backends()) {
      std::vector<std::vector<float>> found;
      for (const int threads : {1, 3}) {
        kernels::stealing_team team(threads);
        hybrid_model model(config, *backend, team);
        std::ranges::copy(shaken_weights(config, 2), model.weights().begin());
        model.weights_changed();
        model.accumulate({ids, 4, 100}, 0.01);
        found.emplace_back(model.gradients().begin(), model.gradients().end());
      }
      BOOST_TEST((found[0] == found[1]), backend->name);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_mixed_model_learns_and_decodes) {
  auto config = tiny_config("am");
  config.layers = {"attention/moe_shared", "mamba2/swiglu", "mamba2/moe"};
  config.options["moe_balance"] = 0.01;
  config.options["moe_z_loss"] = 0.001;
  kernels::serial_team team;
  hybrid_model model(config, kernels::default_backend(), team);
  initial_weights(config, 1, model.weights());
  model.weights_changed();
  adamw optimizer(model.layout(), {});
  std::vector<std::int32_t> ids;  // a text that counts
  for (std::int32_t i = 0; i < 8 * 25; ++i) ids.push_back(i * 5 % 37);
  const double first = model.evaluate({ids, 8, 24}) / (8 * 24);
  for (int step = 0; step < 100; ++step) {
    model.accumulate({ids, 8, 24}, 1.0 / (8 * 24));
    optimizer.step(model.backend(), model.stream(), model.weights(), model.gradients(), 1e-2);
    model.weights_changed();
  }
  const double last = model.evaluate({ids, 8, 24}) / (8 * 24);
  BOOST_TEST(first > 3.4);
  BOOST_TEST(last < 0.2, "the loss fell from " << first << " to " << last);
  auto state = model.start();
  auto logits = model.advance(state, {ids.data(), 10});
  for (std::size_t t = 10; t < 24; ++t) {
    BOOST_TEST(std::distance(logits.begin(), std::ranges::max_element(logits)) == ids[t]);
    logits = model.advance(state, {ids.data() + t, 1});
  }
}

BOOST_AUTO_TEST_CASE(more_active_experts_than_there_are_is_an_error) {
  auto config = tiny_config("a");
  config.layers = {"attention/moe"};
  config.options["moe_active"] = 6;
  const auto ok = check(config);
  BOOST_TEST_REQUIRE(!ok.has_value());
  BOOST_TEST(ok.error().message.find("model.moe_active is 6: a token has at most moe_experts") != std::string::npos, ok.error().message);
}

BOOST_AUTO_TEST_SUITE_END()
