#include "framework/data/sample_order.hpp"

#include "framework/core/error.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <set>

using namespace isthmus;

namespace {
token_section counting(std::size_t tokens) {
  std::vector<std::uint16_t> ids(tokens);
  for (std::size_t i = 0; i < tokens; ++i) ids[i] = static_cast<std::uint16_t>(i);
  return {ids, {tokens}};
}
}  // namespace

BOOST_AUTO_TEST_SUITE(sample_order_test)

BOOST_AUTO_TEST_CASE(every_pass_visits_each_sample_once_in_another_order) {
  for (const std::uint64_t samples : {1U, 2U, 7U, 500U}) {
    const sample_order order(samples, 3, 1);
    std::vector<std::vector<std::uint64_t>> passes;
    for (std::uint64_t pass = 0; pass < 3; ++pass) {
      std::vector<std::uint64_t> visited;
      for (std::uint64_t p = 0; p < samples; ++p) visited.push_back(order.index(pass * samples + p));
      BOOST_TEST((std::set<std::uint64_t>(visited.begin(), visited.end()).size()) == samples);
      passes.push_back(visited);
    }
    if (samples == 500) BOOST_TEST((passes[0] != passes[1] && passes[1] != passes[2]));
  }
  const sample_order other_seed(500, 4, 1), other_shard(500, 3, 2), same(500, 3, 1);
  int moved_seed = 0, moved_shard = 0;
  for (std::uint64_t p = 0; p < 500; ++p) {
    moved_seed += other_seed.index(p) != same.index(p);
    moved_shard += other_shard.index(p) != same.index(p);
  }
  BOOST_TEST(moved_seed > 450);
  BOOST_TEST(moved_shard > 450);
}

BOOST_AUTO_TEST_CASE(rows_overlap_by_one_token_and_cover_the_section) {
  const auto section = counting(1 + 10 * 8 + 3);
  BOOST_TEST(sample_count(section, 8) == 10U);
  BOOST_TEST(sample_count(counting(8), 8) == 0U);
  BOOST_TEST(sample_count(counting(9), 8) == 1U);
  const batch_reader reader(section, 8, 1, 5);
  std::vector<token_id> ids(10 * 9);
  const std::vector<lease> leases{{5, 0, 4}, {5, 4, 10}};
  reader.fill(leases, ids);
  std::set<token_id> firsts;
  for (std::size_t row = 0; row < 10; ++row) {
    firsts.insert(ids[row * 9]);
    for (std::size_t i = 1; i < 9; ++i) BOOST_TEST(ids[row * 9 + i] == ids[row * 9] + static_cast<token_id>(i));
    BOOST_TEST(ids[row * 9] % 8 == 0);
  }
  BOOST_TEST(firsts.size() == 10U);
  std::vector<token_id> again(9);
  reader.fill_row(17, again);  // the second pass
  BOOST_TEST(again[0] % 8 == 0);
  std::vector<token_id> evenly(3 * 9);
  reader.fill_evenly(evenly);
  for (std::size_t row = 0; row < 3; ++row) {
    BOOST_TEST(evenly[row * 9] == static_cast<token_id>(row * reader.samples() / 3 * 8));
    BOOST_TEST(evenly[row * 9 + 8] == evenly[row * 9] + 8);
  }
}

BOOST_AUTO_TEST_CASE(misuse_is_a_contract_error) {
  const auto section = counting(100);
  const batch_reader reader(section, 8, 1, 5);
  std::vector<token_id> ids(9);
  const std::vector<lease> foreign{{6, 0, 1}}, two{{5, 0, 2}};
  BOOST_CHECK_THROW(reader.fill(foreign, ids), contract_error);
  BOOST_CHECK_THROW(reader.fill(two, ids), contract_error);
  BOOST_CHECK_THROW(reader.fill({}, ids), contract_error);
  std::vector<token_id> too_many(9 * (reader.samples() + 1));
  BOOST_CHECK_THROW(reader.fill_evenly(too_many), contract_error);
  BOOST_CHECK_THROW(batch_reader(section, 100, 1, 5), contract_error);
}

BOOST_AUTO_TEST_CASE(unigram_entropy_is_that_of_the_smoothed_counts) {
  token_section train{std::vector<std::uint16_t>{0, 0, 0, 1}, {4}}, held_out{std::vector<std::uint16_t>{0, 1, 2}, {3}};
  // add-one over 4 ids: 4/8, 2/8, 1/8, 1/8
  BOOST_TEST(std::abs(unigram_entropy(train, held_out, 4) - (std::log(2.0) + std::log(4.0) + std::log(8.0)) / 3) < 1e-12);
  BOOST_CHECK_THROW(unigram_entropy(train, {}, 4), contract_error);
}

BOOST_AUTO_TEST_SUITE_END()
