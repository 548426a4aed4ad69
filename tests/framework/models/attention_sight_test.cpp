#include "kernels/select.hpp"
#include "tests/framework/models/model_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <memory>

// Attention that sees less than all earlier tokens: a window, documents in one row.
using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(attention_sight)

namespace {

struct ready_model {
  explicit ready_model(const model_config& c, const kernels::backend& backend = kernels::default_backend()) : model(c, backend, team) {
    const auto w = shaken_weights(c, 1);
    std::copy(w.begin(), w.end(), model.weights().begin());
    model.weights_changed();
  }
  kernels::serial_team team;
  hybrid_model model;
};

/// Rows held of a layer's state, in order: keys, then values.
std::vector<std::int64_t> rows_of(const sequence_state& state, std::size_t layer) {
  std::vector<std::int64_t> rows;
  for (const auto& part : state.layers[layer]) rows.push_back(part.rows());
  return rows;
}

model_config windowed(std::int64_t window) {
  auto config = tiny_config("am");
  config.options["attention_window"] = static_cast<double>(window);
  return config;
}

/// A text of two documents, each of which begins with the mark.
std::vector<std::int32_t> two_documents(std::int32_t mark, std::int64_t first, std::int64_t second) {
  auto ids = random_ids(6, first + second + 1, mark);
  ids[0] = ids[static_cast<std::size_t>(first)] = ids.back() = mark;
  return ids;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_state_holds_less_than_two_windows_and_depends_on_the_position_alone) {
  const std::int64_t window = 5;
  ready_model m(windowed(window));
  const auto ids = random_ids(3, 40, 37);
  const std::span<const std::int32_t> all = ids;
  sequence_state stepped = m.model.start();
  for (std::size_t t = 0; t < all.size(); ++t) {
    m.model.advance(stepped, all.subspan(t, 1));
    const auto position = static_cast<std::int64_t>(t) + 1;
    for (const auto rows : rows_of(stepped, 0)) {
      BOOST_TEST(rows >= std::min(position, window - 1));
      BOOST_TEST(rows < 2 * window);
    }
    sequence_state at_once = m.model.start();
    m.model.advance(at_once, all.first(t + 1));
    BOOST_TEST(rows_of(at_once, 0) == rows_of(stepped, 0), boost::test_tools::per_element());
    BOOST_TEST(bytes_of(at_once) == bytes_of(stepped));
    BOOST_TEST(at_once.layers[0][0].bytes.capacity() <= 4 * static_cast<std::size_t>(window) * at_once.layers[0][0].row_bytes);
  }
}

BOOST_AUTO_TEST_CASE(a_window_as_long_as_the_text_changes_nothing_and_a_shorter_one_does) {
  const auto ids = random_ids(5, 25, 37);
  for (const auto* b : kernels::backends()) {
    const double all = ready_model(windowed(0), *b).model.evaluate({ids, 1, 24});
    BOOST_TEST(ready_model(windowed(24), *b).model.evaluate({ids, 1, 24}) == all);
    BOOST_TEST(std::abs(ready_model(windowed(3), *b).model.evaluate({ids, 1, 24}) - all) > 1e-3);
  }
}

/// A later token changes what is predicted at each place before it; of a causal layer it does not.
BOOST_AUTO_TEST_CASE(bidirectional_attention_sees_later_tokens) {
  auto ids = random_ids(5, 12, 37);
  const std::vector<std::int64_t> places{0, 5};
  for (const auto* b : kernels::backends()) {
    for (const char* layers : {"f", "a"}) {
      ready_model m(tiny_config(layers), *b);
      const auto logits = [&] {
        const auto found = m.model.predict(ids, places);
        return std::vector<float>(found.begin(), found.end());
      };
      const auto before = logits();
      ids[11] = (ids[11] + 1) % 37;
      BOOST_TEST((logits() == before) == (*layers == 'a'), layers << " on " << b->name);
    }
  }
  auto config = tiny_config("f");
  config.options["attention_window"] = 5;
  BOOST_TEST(check(config).error().message.find("attention_window is 5: it must be 0 where attention_bidirectional is true") !=
             std::string::npos);
}

/// A copy that is made while a transaction is open drops what its owner would have kept.
BOOST_AUTO_TEST_CASE(a_copy_has_no_transaction_open) {
  ready_model m(windowed(3));
  const auto ids = random_ids(2, 30, 37);
  sequence_state state = m.model.start();
  const state_transaction open(state);
  m.model.advance(state, {ids.data(), 20});
  sequence_state copy = state;
  BOOST_TEST((copy == state));
  m.model.advance(copy, {ids.data() + 20, 1});
  BOOST_TEST(state.layers[0][0].rows() == 20);
  BOOST_TEST(copy.layers[0][0].rows() < 6);
}

BOOST_AUTO_TEST_CASE(documents_in_one_row_learn_as_in_rows_of_their_own) {
  const std::int32_t mark = 36;
  const std::int64_t length = 9;
  auto config = tiny_config("aw");
  config.document_mark = mark;
  const auto ids = two_documents(mark, length, length);
  std::vector<std::int32_t> apart(ids.begin(), ids.begin() + length + 1);
  apart.insert(apart.end(), ids.begin() + length, ids.end());
  for (const auto* b : kernels::backends()) {
    ready_model packed(config, *b), rows(config, *b);
    const double loss = packed.model.accumulate({ids, 1, 2 * length}, 1), expected = rows.model.accumulate({apart, 2, length}, 1);
    BOOST_TEST(std::abs(loss - expected) <= 1e-5 * expected, b->name << ": " << loss << " against " << expected);
    BOOST_TEST(std::abs(packed.model.evaluate({ids, 1, 2 * length}) - loss) <= 1e-5 * loss);
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < packed.model.gradients().size(); ++i) {
      const double found = static_cast<double>(packed.model.gradients()[i]), wanted = static_cast<double>(rows.model.gradients()[i]);
      largest = std::max(largest, std::abs(wanted));
      difference = std::max(difference, std::abs(found - wanted));
    }
    BOOST_TEST(difference <= 1e-5 * largest);
    config.document_mark = -1;
    const double over_the_end = ready_model(config, *b).model.evaluate({ids, 1, 2 * length});
    config.document_mark = mark;
    BOOST_TEST(std::abs(over_the_end - loss) > 1e-3);
  }
}

/// What a document's tokens cost does not depend on what stands before it in the row; in a packed row it does.
BOOST_AUTO_TEST_CASE(no_document_looks_into_another) {
  const std::int32_t mark = 36;
  auto config = tiny_config("aa");
  auto one = two_documents(mark, 7, 11), other = one;
  for (std::size_t i = 1; i < 7; ++i) other[i] = (other[i] + 5) % mark;
  const auto cost_of_second = [&](const std::vector<std::int32_t>& ids) {
    ready_model m(config);
    const std::vector<std::int32_t> first(ids.begin(), ids.begin() + 8);
    return m.model.evaluate({ids, 1, 18}) - m.model.evaluate({first, 1, 7});
  };
  BOOST_TEST(std::abs(cost_of_second(one) - cost_of_second(other)) > 1e-3);
  config.document_mark = mark;
  BOOST_TEST(std::abs(cost_of_second(one) - cost_of_second(other)) < 1e-4);
}

BOOST_AUTO_TEST_SUITE_END()
