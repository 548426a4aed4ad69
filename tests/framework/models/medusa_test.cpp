#include "framework/checkpoint/checkpoint.hpp"
#include "framework/models/network.hpp"
#include "framework/models/speculate.hpp"
#include "framework/optim/adamw.hpp"
#include "framework/sim/disk.hpp"
#include "kernels/reference/backend.hpp"
#include "kernels/select.hpp"
#include "tests/framework/models/model_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>

// Against PyTorch: golden_test.cpp.
using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(medusa)

namespace {

model_config with_heads(model_config config, std::int64_t heads) {
  config.medusa_heads = heads;
  return config;
}

double surprise(std::span<const double> logits, std::int32_t id) {
  double total = 0;
  for (const double l : logits) total += std::exp(l);
  return std::log(total) - logits[static_cast<std::size_t>(id)];
}

/// The whole model in double, whose joint loss is worked out here, from what decoding says of each token.
struct double_model {
  double_model(const model_config& c, std::uint64_t seed, std::int64_t tokens_at_once)
      : config(c), layout(hybrid_layout(c)), gradients(static_cast<std::size_t>(layout.size)) {
    const auto narrow = shaken_weights(c, seed);
    weights.assign(narrow.begin(), narrow.end());
    net = std::make_unique<hybrid_network<double>>(config, layout, kernels::reference_double_ops(), kernels::reference_double_ops(), stream,
                                                   weights.data(), gradients.data(), tokens_at_once);
  }
  double loss_of_token(const token_batch& batch, std::int64_t row, std::int64_t t, std::int64_t ahead,
                       std::span<const double> logits) const {
    if (t + ahead > batch.context) return 0;
    const auto begin = static_cast<std::size_t>(row * batch.width());
    for (std::int64_t i = t + 1; i < t + ahead; ++i)
      if (batch.ids[begin + static_cast<std::size_t>(i)] == config.document_mark) return 0;
    const std::int32_t target = batch.targets.empty() ? batch.ids[begin + static_cast<std::size_t>(t + ahead)]
                                                      : batch.targets[begin + static_cast<std::size_t>(t + ahead - 1)];
    return target == no_target ? 0 : surprise(logits, target);
  }
  double joint_loss(const token_batch& batch) {
    net->weights_changed();
    const auto v = static_cast<std::size_t>(config.vocabulary);
    double sum = 0;
    for (std::int64_t row = 0; row < batch.rows; ++row) {
      sequence_state state = net->start();
      const auto ids = batch.ids.subspan(static_cast<std::size_t>(row * batch.width()), static_cast<std::size_t>(batch.context));
      const sequence_input read{&state, ids, batch.context};
      const auto main = net->advance({&read, 1});
      for (std::int64_t t = 0; t < batch.context; ++t)
        sum += loss_of_token(batch, row, t, 1, main.subspan(static_cast<std::size_t>(t) * v, v));
      for (std::int64_t t = 0; t < batch.context; ++t) {
        const auto heads = net->head_logits(t);
        for (std::int64_t k = 0; k < config.medusa_heads; ++k)
          sum += 0.2 * std::pow(0.8, k) * loss_of_token(batch, row, t, k + 2, heads.subspan(static_cast<std::size_t>(k) * v, v));
      }
    }
    return sum;
  }

  model_config config;
  parameter_layout layout;
  std::vector<double> weights, gradients;
  kernels::serial_team team;
  kernels::stream stream{team};
  std::unique_ptr<hybrid_network<double>> net;
};

void check_gradients(const model_config& config, std::uint64_t seed, const token_batch& batch) {
  double_model m(config, seed, batch.context);  // a row at once
  const double scale = 0.5;
  m.net->run(batch, scale, true);
  rng random(seed, 2, 0, draw::sampling);
  for (const auto& slot : m.layout.slots) {
    for (int probe = 0; probe < 3; ++probe) {
      const auto i = static_cast<std::size_t>(slot.offset) + random.below(static_cast<std::uint64_t>(slot.count));
      const double w = m.weights[i], step = 1e-5;
      m.weights[i] = w + step;
      const double above = m.joint_loss(batch);
      m.weights[i] = w - step;
      const double below = m.joint_loss(batch);
      m.weights[i] = w;
      const double expected = scale * (above - below) / (2 * step), found = m.gradients[i];
      BOOST_TEST(std::abs(found - expected) <= 1e-6 * (1 + std::abs(expected)),
                 slot.name << " element " << i - static_cast<std::size_t>(slot.offset) << ": " << found << " against " << expected);
    }
  }
}

/// A phrase again and again, and after some of them a token that nothing announces.
std::vector<std::int32_t> phrases(std::int64_t count) {
  const std::int32_t phrase[] = {3, 17, 8, 30, 8, 21, 5};
  rng random(5, 0, 0, draw::sampling);
  std::vector<std::int32_t> ids;
  while (std::ssize(ids) < count) {
    ids.insert(ids.end(), std::begin(phrase), std::end(phrase));
    if (random.below(3) == 0) ids.push_back(static_cast<std::int32_t>(31 + random.below(6)));
  }
  ids.resize(static_cast<std::size_t>(count));
  return ids;
}

struct trained_model {
  trained_model(const model_config& config, const kernels::backend& backend, int steps) : model(config, backend, team) {
    initial_weights(config, 1, model.weights());
    adamw optimizer(model.layout(), {.weight_decay = 0.01F});
    const auto ids = phrases(8 * 25);
    for (int step = 0; step < steps; ++step) {
      model.weights_changed();
      model.accumulate({ids, 8, 24}, 1.0 / 192);
      optimizer.step(backend, model.stream(), model.weights(), model.gradients(), 0.01);
    }
    model.weights_changed();
  }
  kernels::serial_team team;
  hybrid_model model;
};

/// Greedy text by heads and without is the same, whatever it begins with.
double check_same_text(hybrid_model& model, std::int64_t tokens) {
  double least = 1e9;
  for (std::uint64_t seed = 1; seed < 4; ++seed) {
    const auto prompt = seed == 1 ? phrases(20) : random_ids(seed, 3 + static_cast<std::int64_t>(seed), 37);
    const generate_options options{.tokens_max = tokens, .temperature = 0};
    const auto plain = generate(model, prompt, options);
    const auto fast = generate_by_heads(model, prompt, options);
    BOOST_TEST(fast.ids == plain, boost::test_tools::per_element());
    BOOST_TEST(fast.passes >= tokens / (model.config().medusa_heads + 1));
    least = std::min(least, fast.tokens_per_pass());
  }
  return least;
}

}  // namespace

BOOST_AUTO_TEST_CASE(joint_gradients_agree_with_central_differences) {
  for (const char* layers : {"am", "sh", "g"}) {
    const auto config = with_heads(tiny_config(layers), 2);
    const auto ids = random_ids(3, 2 * 8, config.vocabulary);
    check_gradients(config, 3, {ids, 2, 7});
  }
}
BOOST_AUTO_TEST_CASE(a_target_in_another_document_counts_nothing) {
  auto config = with_heads(tiny_config("m"), 3);
  config.vocabulary = 5;
  config.document_mark = 3;
  config.tied_head = false;
  const auto ids = random_ids(4, 2 * 12, config.vocabulary);
  BOOST_TEST(std::ranges::count(ids, 3) > 2);
  check_gradients(config, 4, {ids, 2, 11});
}
BOOST_AUTO_TEST_CASE(targets_that_count_nothing_count_nothing_further_ahead) {
  const auto config = with_heads(tiny_config("a"), 2);
  const auto ids = random_ids(5, 2 * 9, config.vocabulary);
  auto targets = random_ids(6, 2 * 9, config.vocabulary);
  for (std::size_t i = 0; i < targets.size(); i += 3) targets[i] = no_target;
  check_gradients(config, 5, {ids, 2, 9, targets});
}

BOOST_AUTO_TEST_CASE(heads_begin_as_copies_of_the_head_and_leave_the_loss_alone) {
  for (const bool tied : {true, false}) {
    auto plain = tiny_config("ma");
    plain.tied_head = tied;
    const auto config = with_heads(plain, 2);
    kernels::serial_team team;
    hybrid_model with(config, kernels::default_backend(), team), without(plain, kernels::default_backend(), team);
    initial_weights(config, 3, with.weights());
    initial_weights(plain, 3, without.weights());
    const auto ids = random_ids(1, 2 * 9, config.vocabulary);
    const double loss = without.evaluate({ids, 2, 8});
    BOOST_TEST(with.evaluate({ids, 2, 8}) == loss);
    BOOST_TEST(with.accumulate({ids, 2, 8}, 1) == loss);
    sequence_state state = with.start();
    const auto logits = with.advance(state, std::span(ids).first(5), 2);
    const std::vector<float> main(logits.begin(), logits.end());
    for (std::int64_t row : {3, 4}) {
      const auto heads = with.head_logits(row);
      BOOST_TEST_REQUIRE(heads.size() == 2U * 37U);
      for (std::size_t v = 0; v < heads.size(); ++v)
        BOOST_TEST(std::abs(heads[v] - main[static_cast<std::size_t>(row - 3) * 37 + v % 37]) < 1e-5F);
    }
    BOOST_CHECK_THROW(with.head_logits(5), contract_error);
  }
}

BOOST_AUTO_TEST_CASE(heads_of_a_text_by_heart_give_several_tokens_a_pass_and_the_same_text) {
  for (const auto precision : {precision_kind::fp32, precision_kind::bf16}) {
    auto config = with_heads(tiny_config("am"), 3);
    config.precision = precision;
    trained_model m(config, kernels::default_backend(), 150);
    const auto prompt = phrases(20);
    const generate_options options{.tokens_max = 80, .temperature = 0};
    const auto fast = generate_by_heads(m.model, prompt, options);
    BOOST_TEST(fast.ids == generate(m.model, prompt, options), boost::test_tools::per_element());
    BOOST_TEST(fast.tokens_per_pass() > 2, fast.tokens_per_pass());
  }
}

/// After few steps the heads are often wrong: proposals are rejected, and states restored.
BOOST_AUTO_TEST_CASE(text_is_that_of_plain_decoding_with_layers_of_every_kind) {
  for (const char* layers : {"aa", "ww", "mm", "ss", "hh", "dd", "ee", "gg", "rr", "ma", "awmshdegr"}) {
    BOOST_TEST_CONTEXT(layers) {
      for (const int steps : {15, 60}) {
        trained_model m(with_heads(tiny_config(layers, 2), 3), kernels::default_backend(), steps);
        const double least = check_same_text(m.model, 60);
        BOOST_TEST(least >= 0.5);
        BOOST_TEST(least < 3.9);
      }
    }
  }
}
BOOST_AUTO_TEST_CASE(text_is_that_of_plain_decoding_on_every_backend) {
  const auto config = with_heads(with_experts(tiny_config("amw")), 2);
  trained_model m(config, kernels::default_backend(), 40);
  for (const auto* backend : kernels::backends()) {
    kernels::serial_team team;
    hybrid_model other(config, *backend, team);
    std::ranges::copy(m.model.weights(), other.weights().begin());
    other.weights_changed();
    check_same_text(other, 40);
  }
}

BOOST_AUTO_TEST_CASE(text_ends_where_it_is_told_to) {
  trained_model m(with_heads(tiny_config("am"), 3), kernels::default_backend(), 60);
  const auto prompt = phrases(20);
  for (std::int64_t tokens = 0; tokens < 7; ++tokens)
    BOOST_TEST(std::ssize(generate_by_heads(m.model, prompt, {.tokens_max = tokens, .temperature = 0}).ids) == tokens);
  const auto whole = generate(m.model, prompt, {.tokens_max = 30, .temperature = 0});
  const generate_options stopped{.tokens_max = 30, .temperature = 0, .stop_id = whole[4]};
  BOOST_TEST(generate_by_heads(m.model, prompt, stopped).ids == generate(m.model, prompt, stopped));
  std::vector<std::int32_t> heard;
  generate_by_heads(m.model, prompt, {.tokens_max = 30, .temperature = 0}, [&](std::int32_t id) {
    heard.push_back(id);
    return heard.size() < 6;
  });
  BOOST_TEST(heard == std::vector<std::int32_t>(whole.begin(), whole.begin() + 6));
  trained_model plain(tiny_config("a"), kernels::default_backend(), 0);
  BOOST_CHECK_THROW(generate_by_heads(plain.model, prompt, {.tokens_max = 3, .temperature = 0}), contract_error);
}

/// Weights, moments and the count of steps are all that a model with heads goes on from.
BOOST_AUTO_TEST_CASE(a_checkpoint_with_heads_goes_on_to_the_bit) {
  const auto config = with_heads(tiny_config("ma"), 2);
  const auto ids = phrases(4 * 17);
  sim::disk memory;
  const auto disk = memory.open("d");
  checkpoint_store store(*disk, "c");
  kernels::serial_team team;
  const auto train = [&](hybrid_model& model, adamw& optimizer, int steps) {
    for (int i = 0; i < steps; ++i) {
      model.weights_changed();
      model.accumulate({ids, 4, 16}, 1.0 / 64);
      optimizer.step(model.backend(), model.stream(), model.weights(), model.gradients(), 0.01);
    }
  };
  hybrid_model whole(config, kernels::default_backend(), team);
  initial_weights(config, 1, whole.weights());
  adamw optimizer(whole.layout(), {});
  train(whole, optimizer, 5);
  const auto& layout = whole.layout();
  checkpoint_facts facts;
  facts.run_id = "r";
  facts.step = 5;
  const auto saved = store.save(facts, {{"weights", views_of(layout, whole.weights())},
                                        {"moment1", views_of(layout, optimizer.first())},
                                        {"moment2", views_of(layout, optimizer.second())}});
  BOOST_TEST_REQUIRE(saved.has_value());
  train(whole, optimizer, 5);

  const auto loaded = store.load();
  BOOST_TEST_REQUIRE(loaded.has_value());
  hybrid_model resumed(config, kernels::default_backend(), team);
  adamw its_optimizer(layout, {});
  its_optimizer.restore_steps(5);
  for (const auto& [part, into] :
       {std::pair{"weights", resumed.weights()}, {"moment1", its_optimizer.first()}, {"moment2", its_optimizer.second()}})
    BOOST_TEST_REQUIRE((*loaded->part(part))->copy_to(layout, into).has_value());
  train(resumed, its_optimizer, 5);
  BOOST_TEST(std::ranges::equal(resumed.weights(), whole.weights()));
}

BOOST_AUTO_TEST_CASE(bad_numbers_of_heads_are_named) {
  const auto message = [](const model_config& c) {
    const auto ok = check(c);
    BOOST_TEST_REQUIRE(!ok);
    return ok.error().message;
  };
  BOOST_TEST(message(with_heads(tiny_config("a"), 17)).find("model.medusa_heads is 17: it must lie in 0 ... 16") == 0U);
  BOOST_TEST(message(with_heads(tiny_config("a"), -1)).find("model.medusa_heads is -1") == 0U);
  BOOST_TEST(message(with_heads(tiny_config("b"), 2)).find("model.medusa_heads is 2: it must be 0 where a layer sees later tokens") == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
