#include "framework/models/layer_pairs.hpp"
#include "kernels/select.hpp"
#include "tests/framework/models/model_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <string>

// A kind of layer that a program brings itself.
using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(own_layers)

namespace {

/// y_t = gain * x_{t-1} + share * x_t.
template <class Act>
class token_shift final : public layer<Act> {
public:
  using real = kernels::real<Act>;
  token_shift(const layer_shape& shape, const layer_parts<Act>& parts)
      : d_(shape.d_model), share_(static_cast<real>(shape.real("share"))), gain_(parts.vector("gain")) {}
  void place(std::int64_t, std::int64_t, arena&, arena&) override {}
  void forward(const layer_pass<Act>& p, const Act* x, Act* y) override {
    for (std::int64_t r = 0; r < p.rows(); ++r) row(x + r * d_, r % p.length == 0 ? nullptr : x + (r - 1) * d_, y + r * d_);
  }
  void backward(const layer_pass<Act>& p, const Act* x, const Act* dy, Act* dx) override {
    for (std::int64_t r = 0; r < p.rows(); ++r) {
      const bool first = r % p.length == 0, last = (r + 1) % p.length == 0;
      for (std::int64_t c = 0; c < d_; ++c) {
        const auto next = last ? real{0} : gain_.weight[c] * static_cast<real>(dy[(r + 1) * d_ + c]);
        dx[r * d_ + c] = static_cast<Act>(share_ * static_cast<real>(dy[r * d_ + c]) + next);
        if (!first) gain_.gradient[c] += static_cast<real>(dy[r * d_ + c]) * static_cast<real>(x[(r - 1) * d_ + c]);
      }
    }
  }
  void advance(const layer_pass<Act>&, std::span<const moving_sequence> sequences, const Act* x, Act* y) override {
    for (const auto& s : sequences) {
      auto* before = (*s.state)[0].as<Act>();
      for (std::int64_t r = s.first; r < s.first + s.count; ++r) {
        row(x + r * d_, before, y + r * d_);
        std::copy_n(x + r * d_, d_, before);
      }
    }
  }
  layer_state start() const override { return {fixed_part<Act>(state_kind::conv, d_)}; }
  void weights_changed() override {}

private:
  void row(const Act* x, const Act* before, Act* y) const {
    for (std::int64_t c = 0; c < d_; ++c)
      y[c] = static_cast<Act>(share_ * static_cast<real>(x[c]) + (before ? gain_.weight[c] * static_cast<real>(before[c]) : real{0}));
  }
  std::int64_t d_;
  real share_;
  parameter<real> gain_;
};

constexpr option_field options[] = {real_option("share", 0.5, 0, 1, "of the token itself")};
const layer_kind token_shift_kind{
    .name = "token_shift",
    .title = "token shift",
    .folder = "shift",
    .mixes_sequence = true,
    .options = options,
    .check = [](const layer_shape&) { return expected<void>(); },
    .declare = [](const layer_shape& s, tensor_list& t) { t.add_vector("gain", s.d_model, uniform_values(1)); },
    .make_f32 = make_layer<token_shift, float>,
    .make_b16 = make_layer<token_shift, kernels::bf16>,
    .make_f64 = make_layer<token_shift, double>};

model_config shifting_config(const layer_catalog& catalog) {
  auto c = tiny_config("a");
  c.catalog = &catalog;
  c.layers = {"token_shift", "attention", "half/none"};
  c.variants = {{"half", "token_shift", {{"share", 0.25}}}};
  return c;
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_own_kind_trains_and_decodes) {
  const layer_catalog catalog = builtin_layers().with(token_shift_kind);
  const auto config = shifting_config(catalog);
  BOOST_TEST(hybrid_layout(config).slots[2].name == "model.layers.0.shift.gain");
  kernels::serial_team team;
  hybrid_model model(config, kernels::default_backend(), team);
  const auto weights = shaken_weights(config, 1);
  std::copy(weights.begin(), weights.end(), model.weights().begin());
  model.weights_changed();
  const auto ids = random_ids(4, 10, config.vocabulary);
  const double whole = model.accumulate({ids, 1, 9}, 1);
  double sum = 0;
  auto state = model.start();
  for (std::size_t t = 0; t < 9; ++t) {
    const auto logits = model.advance(state, {ids.data() + t, 1});
    double total = 0;
    for (const float l : logits) total += std::exp(static_cast<double>(l));
    sum += std::log(total) - static_cast<double>(logits[static_cast<std::size_t>(ids[t + 1])]);
  }
  BOOST_TEST(sum == whole, boost::test_tools::tolerance(1e-5));
  const auto& gain = hybrid_layout(config).slots[2];
  BOOST_TEST(std::ranges::any_of(model.gradients().subspan(static_cast<std::size_t>(gain.offset), 16), [](float g) { return g != 0; }));
}

BOOST_AUTO_TEST_CASE(a_name_is_taken_once) {
  const layer_catalog catalog = builtin_layers().with(token_shift_kind);
  BOOST_CHECK_THROW(catalog.with(token_shift_kind), contract_error);
  BOOST_TEST((catalog.find("token_shift") == &token_shift_kind));
  BOOST_TEST((builtin_layers().find("token_shift") == nullptr));
}

BOOST_AUTO_TEST_CASE(kinds_that_share_an_option_mean_the_same) {
  for (const auto* kind : builtin_layers().kinds()) {
    for (const auto& field : kind->options) {
      const auto* first = builtin_layers().find_option(field.key);
      BOOST_TEST((first->type == field.type && first->initial == field.initial && first->min == field.min && first->max == field.max),
                 kind->name << " and another kind mean different things by " << field.key);
      BOOST_TEST(allows(field, field.initial));
      BOOST_TEST(!field.help.empty());
    }
  }
}

BOOST_AUTO_TEST_CASE(every_kind_has_a_page_with_its_formula_that_names_its_options) {
  for (const auto* kind : builtin_layers().kinds()) {
    const std::string page = "docs/layers/" + std::string(kind->name);
    std::ifstream text(page + ".md"), plot(page + ".svg");
    BOOST_TEST(plot.good(), page << ".svg is missing: docs/make_layer_plots.py");
    const std::string words{std::istreambuf_iterator<char>(text), {}};
    const auto formula = words.find(" = "), costs = words.find("## What a token costs");
    BOOST_TEST((formula != words.npos && formula < costs), page << ".md has no formula");
    for (const auto& option : kind->options)
      BOOST_TEST(words.find("`" + std::string(option.key) + "`") != words.npos, page << ".md does not name " << option.key);
  }
}

BOOST_AUTO_TEST_SUITE_END()
