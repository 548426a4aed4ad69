#include "framework/core/rng.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <set>

using namespace isthmus;

BOOST_AUTO_TEST_SUITE(rng_test)

BOOST_AUTO_TEST_CASE(streams_depend_on_every_part_of_their_key) {
  const auto first = [](auto... key) { return rng(key...).next(); };
  const std::set<std::uint64_t> distinct{first(1U, 2U, 3U, draw::network), first(2U, 2U, 3U, draw::network),
                                         first(1U, 3U, 3U, draw::network), first(1U, 2U, 4U, draw::network),
                                         first(1U, 2U, 3U, draw::fault)};
  BOOST_TEST(distinct.size() == 5U);
  BOOST_TEST(first(1U, 2U, 3U, draw::network) == first(1U, 2U, 3U, draw::network));
}

BOOST_AUTO_TEST_CASE(permuted_is_a_bijection) {
  for (const std::uint64_t count : {1U, 2U, 3U, 17U, 64U, 1000U}) {
    for (std::uint64_t key = 0; key < 3; ++key) {
      std::set<std::uint64_t> seen;
      for (std::uint64_t i = 0; i < count; ++i) seen.insert(permuted(i, count, key));
      BOOST_TEST(seen.size() == count);
      BOOST_TEST(*seen.rbegin() == count - 1);
    }
  }
}

BOOST_AUTO_TEST_CASE(normal_draws_have_unit_variance) {
  rng r(7, 0, 0, draw::initial_weights);
  double sum = 0, squares = 0;
  const int n = 100000;
  for (int i = 0; i < n; ++i) {
    const double x = r.normal();
    sum += x;
    squares += x * x;
  }
  BOOST_TEST(std::abs(sum / n) < 0.02);
  BOOST_TEST(std::abs(squares / n - 1) < 0.02);
}

BOOST_AUTO_TEST_SUITE_END()
