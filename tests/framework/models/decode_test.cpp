#include "framework/models/generate.hpp"
#include "kernels/select.hpp"
#include "tests/framework/models/model_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(decode)

namespace {

struct ready_model {
  explicit ready_model(const model_config& c, const kernels::backend& backend, std::uint64_t seed = 1) : model(c, backend, team) {
    const auto w = shaken_weights(c, seed);
    std::copy(w.begin(), w.end(), model.weights().begin());
    model.weights_changed();
  }
  kernels::serial_team team;
  hybrid_model model;
};

double surprise(std::span<const float> logits, std::int32_t id) {
  double total = 0;
  for (const float l : logits) total += std::exp(static_cast<double>(l));
  return std::log(total) - static_cast<double>(logits[static_cast<std::size_t>(id)]);
}

/// Reading a text in pieces of any size gives each time what the forward pass gives.
void check_pieces(const kernels::backend& backend, const model_config& config, double tolerance) {
  ready_model m(config, backend);
  const std::int64_t context = 23;
  const auto ids = random_ids(4, context + 1, config.vocabulary);
  const double expected = m.model.evaluate({ids, 1, context});
  const std::span<const std::int32_t> all = ids;
  for (const std::size_t first : {std::size_t{1}, std::size_t{3}, std::size_t{12}}) {
    double sum = 0;
    sequence_state stepped = m.model.start(), in_pieces = m.model.start();
    for (std::size_t t = 0; t < static_cast<std::size_t>(context); ++t)
      sum += surprise(m.model.advance(stepped, all.subspan(t, 1)), all[t + 1]);
    BOOST_TEST(std::abs(sum - expected) <= tolerance * expected,
               backend.name << " " << config.layers.front() << "...: " << sum << " against " << expected);
    BOOST_TEST(stepped.position == context);
    const auto last = m.model.advance(stepped, all.last(1));
    const std::vector<float> by_steps(last.begin(), last.end());
    m.model.advance(in_pieces, all.first(first));
    m.model.advance(in_pieces, all.subspan(first, 6));
    const auto logits = m.model.advance(in_pieces, all.subspan(first + 6));
    for (std::size_t v = 0; v < by_steps.size(); ++v)
      BOOST_REQUIRE(std::abs(logits[v] - by_steps[v]) <= 20 * static_cast<float>(tolerance) * (1 + std::abs(by_steps[v])));
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(prefill_and_steps_equal_the_forward_pass) {
  for (const auto* b : kernels::backends())
    for (const char* layers : {"aa", "mm", "ss", "hh", "dd", "ee", "gg", "ww", "rr", "ma", "awmashdegr"})
      check_pieces(*b, tiny_config(layers, 2), 1e-5);
}
BOOST_AUTO_TEST_CASE(prefill_and_steps_with_norms_inside_mamba1_equal_the_forward_pass) {
  auto config = tiny_config("sa");
  config.options["scan_norms"] = 1;
  for (const auto* b : kernels::backends()) check_pieces(*b, config, 1e-5);
}
BOOST_AUTO_TEST_CASE(prefill_and_steps_with_experts_equal_the_forward_pass) {
  for (const auto* b : kernels::backends()) check_pieces(*b, with_experts(tiny_config("ama")), 1e-5);
}
BOOST_AUTO_TEST_CASE(prefill_and_steps_in_bf16_stay_near_the_forward_pass) {
  auto config = tiny_config("awmashdegr", 2);
  config.precision = precision_kind::bf16;
  for (const auto* b : kernels::backends()) check_pieces(*b, config, 1e-2);
  auto experts = with_experts(tiny_config("ama"));
  experts.precision = precision_kind::bf16;
  for (const auto* b : kernels::backends()) check_pieces(*b, experts, 1e-2);
}

namespace {

/// Three sequences, of which one reads a prompt while others decode, move on as each would alone: logits, and what comes after.
void check_together(const kernels::backend& backend, const model_config& config, float tolerance) {
  ready_model m(config, backend);
  const auto ids = random_ids(6, 40, config.vocabulary);
  const std::span<const std::int32_t> all = ids;
  const std::size_t steps[][3] = {{1, 7, 3}, {4, 1, 1}, {1, 1, 1}, {2, 1, 6}, {1, 1, 1}};
  std::vector<sequence_state> alone(3, m.model.start()), together(3, m.model.start());
  std::vector<std::size_t> at = {0, 5, 20};
  const auto vocabulary = static_cast<std::size_t>(config.vocabulary);
  for (const auto& counts : steps) {
    std::vector<float> expected;
    std::vector<sequence_input> inputs;
    for (std::size_t s = 0; s < 3; ++s) {
      const auto logits = m.model.advance(alone[s], all.subspan(at[s], counts[s]));
      expected.insert(expected.end(), logits.begin(), logits.end());
      inputs.push_back({&together[s], all.subspan(at[s], counts[s])});
      at[s] += counts[s];
    }
    const auto logits = m.model.advance(inputs);
    BOOST_REQUIRE(logits.size() == 3 * vocabulary);
    for (std::size_t v = 0; v < logits.size(); ++v)
      BOOST_REQUIRE_MESSAGE(std::abs(logits[v] - expected[v]) <= tolerance * (1 + std::abs(expected[v])),
                            backend.name << " " << config.layers.front() << "..., sequence " << v / vocabulary << ": " << logits[v]
                                         << ", alone " << expected[v]);
  }
  for (std::size_t s = 0; s < 3; ++s) {
    BOOST_TEST(together[s].position == alone[s].position);
    BOOST_TEST(bytes_of(together[s]) == bytes_of(alone[s]));
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(sequences_that_move_on_together_do_as_each_alone) {
  for (const auto* b : kernels::backends()) {
    for (const char* layers : {"aa", "mm", "ss", "hh", "dd", "ee", "gg", "ww", "rr", "awmashdegr"})
      check_together(*b, tiny_config(layers, 2), 1e-4F);
    check_together(*b, with_experts(tiny_config("ama")), 1e-4F);
    auto config = tiny_config("awmashdegr", 2);
    config.precision = precision_kind::bf16;
    check_together(*b, config, 0.2F);
  }
}

BOOST_AUTO_TEST_CASE(sequences_that_move_on_together_are_several_and_distinct) {
  ready_model m(tiny_config("a"), kernels::default_backend());
  sequence_state state = m.model.start();
  const std::vector<std::int32_t> ids{1, 2}, wrong{37};
  BOOST_CHECK_THROW(m.model.advance({}), contract_error);
  const sequence_input twice[] = {{&state, ids}, {&state, ids}}, none[] = {{&state, {}}}, unknown[] = {{&state, wrong}};
  BOOST_CHECK_THROW(m.model.advance(twice), contract_error);
  BOOST_CHECK_THROW(m.model.advance(none), contract_error);
  BOOST_CHECK_THROW(m.model.advance(unknown), contract_error);
  BOOST_TEST(state.position == 0);
}

BOOST_AUTO_TEST_CASE(a_model_that_sees_ahead_does_not_decode) {
  BOOST_TEST(!sees_ahead(tiny_config("ra")));
  for (const char* layers : {"b", "f", "maf"}) {
    auto config = tiny_config(layers);
    BOOST_TEST(sees_ahead(config));
    ready_model m(config, kernels::default_backend());
    sequence_state state = m.model.start();
    const std::vector<std::int32_t> ids{1, 2};
    BOOST_CHECK_THROW(m.model.advance(state, ids), contract_error);
    config.medusa_heads = 1;
    BOOST_TEST(check(config).error().message.find("medusa_heads") != std::string::npos);
    config.medusa_heads = 0;
    config.document_mark = 3;
    BOOST_TEST(check(config).error().message.find("model.document_mark is 3: it must be -1") != std::string::npos);
  }
}

/// One of each mixer, and several; what is read reaches past the window of attention and the filters of Monarch mixers, of 8 taps.
BOOST_AUTO_TEST_CASE(a_copied_state_is_a_snapshot) {
  for (const auto* b : kernels::backends()) {
    for (const char* layers : {"am", "s", "h", "d", "e", "g", "w", "r", "rheda"}) {
      ready_model m(tiny_config(layers), *b);
      sequence_state state = m.model.start();
      const auto ids = random_ids(1, 30, 37);
      m.model.advance(state, {ids.data(), 5});
      for (std::size_t t = 5; t < 12; ++t) m.model.advance(state, {ids.data() + t, 1});
      const sequence_state snapshot = state;
      const auto once = m.model.advance(state, {ids.data() + 12, 18});
      const std::vector<float> first(once.begin(), once.end());
      BOOST_TEST((state != snapshot));
      state = snapshot;
      const auto again = m.model.advance(state, {ids.data() + 12, 18});
      BOOST_TEST(std::equal(first.begin(), first.end(), again.begin(), again.end()), layers << " on " << b->name);
    }
  }
}

/// Trials within a trial, undone and kept, of states that grow, that do not, and that drop what no filter reaches.
BOOST_AUTO_TEST_CASE(trials_within_trials_are_undone) {
  const auto ids = random_ids(2, 40, 37);
  for (const auto* b : kernels::backends()) {
    for (const char* layers : {"am", "r", "h", "d", "e", "rheda"}) {
      BOOST_TEST_CONTEXT(layers << " on " << b->name) {
        auto config = tiny_config(layers);
        config.options["attention_window"] = 4;
        ready_model m(config, *b);
        sequence_state state = m.model.start();
        m.model.advance(state, {ids.data(), 9});
        const sequence_state before = state;
        {
          const state_transaction outer(state);
          m.model.advance(state, {ids.data() + 9, 2});
          {
            const state_transaction inner(state);
            for (std::size_t t = 11; t < 31; ++t) m.model.advance(state, {ids.data() + t, 1});
          }
          state_transaction committed(state);
          m.model.advance(state, {ids.data() + 11, 20});
          committed.commit();
          BOOST_TEST((state != before));
        }
        BOOST_TEST((state == before));
        state_transaction kept(state);
        m.model.advance(state, {ids.data() + 9, 22});
        kept.commit();
        sequence_state plain = before;
        m.model.advance(plain, {ids.data() + 9, 22});
        BOOST_TEST((state == plain));
        for (const auto& layer : state.layers)
          for (const auto& part : layer)
            if (part.window > 0) BOOST_TEST(part.rows() < 2 * part.window);
        const auto next = m.model.advance(state, {ids.data() + 31, 1});
        const std::vector<float> found(next.begin(), next.end());
        const auto expected = m.model.advance(plain, {ids.data() + 31, 1});
        BOOST_TEST(std::equal(expected.begin(), expected.end(), found.begin(), found.end()));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(what_is_not_committed_is_undone) {
  for (const auto* b : kernels::backends()) {
    ready_model m(tiny_config("amshdgea"), *b);
    sequence_state state = m.model.start();
    const auto ids = random_ids(1, 12, 37);
    m.model.advance(state, {ids.data(), 5});
    const sequence_state before = state;
    {
      const state_transaction forgotten(state);
      m.model.advance(state, {ids.data() + 5, 3});
      BOOST_TEST(forgotten.bytes() == bytes_of(before) - bytes_of(before, state_kind::kv));
    }
    BOOST_TEST((state == before));
    state_transaction kept(state);
    m.model.advance(state, {ids.data() + 5, 3});
    const sequence_state after = state;
    kept.commit();
    kept.abort();  // has ended
    BOOST_TEST((state == after));
    BOOST_TEST(bytes_of(state, state_kind::kv) == bytes_of(before, state_kind::kv) / 5 * 8);
    BOOST_TEST(bytes_of(state) > bytes_of(state, state_kind::kv));
  }
}

BOOST_AUTO_TEST_CASE(a_state_whose_parts_all_grow_keeps_what_was_read_first) {
  const auto ids = random_ids(1, 12, 37);
  for (const auto& [layers, grows] : {std::pair{"aw", true}, {"am", false}}) {
    ready_model m(tiny_config(layers), kernels::default_backend());
    sequence_state state = m.model.start();
    m.model.advance(state, {ids.data(), 5});
    const sequence_state before = state;
    state_transaction trial(state);
    m.model.advance(state, {ids.data() + 5, 7});
    const sequence_state after = state;
    BOOST_TEST(trial.commit_first(3) == grows);
    if (grows) {
      BOOST_TEST(state.position == 8);
      trial.abort();  // has ended
      sequence_state at_once = m.model.start();
      m.model.advance(at_once, {ids.data(), 5});
      m.model.advance(at_once, {ids.data() + 5, 3});
      const auto next = m.model.advance(at_once, {ids.data() + 8, 1});
      const std::vector<float> expected(next.begin(), next.end());
      const auto found = m.model.advance(state, {ids.data() + 8, 1});
      for (std::size_t v = 0; v < expected.size(); ++v) BOOST_TEST(std::abs(found[v] - expected[v]) < 1e-4F);
      BOOST_TEST(bytes_of(state) == bytes_of(at_once));
    } else {
      BOOST_TEST((state == after));
      trial.abort();
      BOOST_TEST((state == before));
    }
  }
}

BOOST_AUTO_TEST_CASE(each_of_the_last_rows_has_its_logits) {
  for (const auto* b : kernels::backends()) {
    ready_model m(tiny_config("am"), *b);
    const auto ids = random_ids(1, 9, 37);
    sequence_state state = m.model.start(), stepped = m.model.start();
    const auto all = m.model.advance(state, ids, 4);
    const std::vector<float> rows(all.begin(), all.end());
    BOOST_TEST_REQUIRE(rows.size() == 4U * 37U);
    for (std::size_t t = 0; t < 9; ++t) {
      const auto one = m.model.advance(stepped, {ids.data() + t, 1});
      for (std::size_t v = 0; t >= 5 && v < 37; ++v) BOOST_TEST(std::abs(rows[(t - 5) * 37 + v] - one[v]) < 1e-4F * (1 + std::abs(one[v])));
    }
    BOOST_CHECK_THROW(m.model.advance(state, ids, 10), contract_error);
    BOOST_CHECK_THROW(m.model.advance(state, ids, 0), contract_error);
  }
}

BOOST_AUTO_TEST_CASE(text_depends_on_the_seed_alone) {
  ready_model m(tiny_config("ma"), kernels::default_backend());
  const auto prompt = random_ids(2, 4, 37);
  generate_options options{.tokens_max = 30, .temperature = 1.2F, .top_k = 10, .top_p = 0.9F, .seed = 7};
  std::vector<std::int32_t> heard;
  const auto text = generate(m.model, prompt, options, [&](std::int32_t id) {
    heard.push_back(id);
    return true;
  });
  BOOST_TEST(text.size() == 30U);
  BOOST_TEST(text == heard);
  BOOST_TEST(text == generate(m.model, prompt, options));
  options.seed = 8;
  BOOST_TEST(text != generate(m.model, prompt, options));
  options.stop_id = text[3];
  options.seed = 7;
  const auto stopped = generate(m.model, prompt, options);
  BOOST_TEST(stopped.back() == text[3]);
  BOOST_TEST(stopped.size() <= 4U);
  BOOST_TEST(generate(m.model, prompt, options, [](std::int32_t) { return false; }).size() == 1U);
}

BOOST_AUTO_TEST_CASE(draws_follow_the_options) {
  const std::vector<float> logits = {0.0F, 3.0F, 1.0F, 3.0F, 2.0F};
  BOOST_TEST(sample(logits, {.temperature = 0}, 0.99) == 1);
  for (const double u : {0.0, 0.3, 0.7, 0.999}) {
    BOOST_TEST(sample(logits, {.temperature = 1, .top_k = 1}, u) == 1);
    BOOST_TEST(sample(logits, {.temperature = 1, .top_k = 0, .top_p = 0.01F}, u) == 1);
    const auto two = sample(logits, {.temperature = 1, .top_k = 2}, u);
    BOOST_TEST(two == (u < 0.5 ? 1 : 3));
  }
  std::vector<double> counts(5), expected(5);
  for (int i = 0; i < 10000; ++i) counts[static_cast<std::size_t>(sample(logits, {.temperature = 2}, (i + 0.5) / 10000))] += 1e-4;
  double total = 0;
  for (std::size_t v = 0; v < 5; ++v) total += expected[v] = std::exp(static_cast<double>(logits[v]) / 2);
  for (std::size_t v = 0; v < 5; ++v) BOOST_TEST(std::abs(counts[v] - expected[v] / total) < 2e-4);
}

BOOST_AUTO_TEST_CASE(nothing_is_drawn_from_logits_that_are_not_finite) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  for (const float temperature : {0.0F, 1.0F}) {
    const auto says = [&](const std::vector<float>& logits, const char* words) {
      BOOST_CHECK_EXCEPTION(sample(logits, {.temperature = temperature}, 0.5), not_finite_error,
                            [&](const auto& e) { return std::string(e.what()).find(words) != std::string::npos; });
    };
    says({1, nan, 2}, "predicts nan for token 1");
    says({nan, nan}, "predicts nan for token 0");
    says({1, 2, infinity}, "predicts inf for token 2");
    says({-infinity, -infinity}, "minus infinity for every token");
    for (const double u : {0.0, 0.999}) BOOST_TEST(sample(std::vector{-infinity, 1.0F, -infinity}, {.temperature = temperature}, u) == 1);
  }
  ready_model m(tiny_config("ma"), kernels::default_backend());
  std::ranges::fill(m.model.weights(), 1e30F);
  m.model.weights_changed();
  BOOST_CHECK_THROW(generate(m.model, random_ids(2, 4, 37), {.tokens_max = 3}), not_finite_error);
}

BOOST_AUTO_TEST_SUITE_END()
