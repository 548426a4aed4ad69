#include "framework/transport/buffer_pool.hpp"

#include <boost/test/unit_test.hpp>

#include <vector>

using namespace isthmus;

namespace {
constexpr std::size_t size = 4096;

void take_at_once(buffer_pool& pool, std::size_t count) {
  std::vector<std::shared_ptr<buffer>> taken;
  for (std::size_t i = 0; i < count; ++i) taken.push_back(pool.take(size));
}
}  // namespace

BOOST_AUTO_TEST_SUITE(buffer_pools)

BOOST_AUTO_TEST_CASE(what_comes_back_is_lent_again) {
  buffer_pool pool(size);
  const auto* first = pool.take(size).get();
  BOOST_TEST(pool.kept() == 1U);
  BOOST_TEST(pool.take(size / 2).get() == first);
}

BOOST_AUTO_TEST_CASE(what_a_burst_needed_is_freed_once_nobody_needs_it) {
  buffer_pool pool(size);
  take_at_once(pool, 10);
  BOOST_TEST(pool.kept() == 10U);
  pool.trim();  // they were needed a moment ago
  BOOST_TEST(pool.kept() == 10U);
  take_at_once(pool, 3);
  pool.trim();
  BOOST_TEST(pool.kept() == 3U);
  pool.trim();
  BOOST_TEST(pool.kept() == 0U);
}

BOOST_AUTO_TEST_CASE(small_ones_take_what_they_need_and_leave_nothing) {
  buffer_pool pool(size);
  for (int i = 0; i < 100; ++i) BOOST_TEST(pool.take(100)->size() == 100U);
  BOOST_TEST(pool.kept() == 0U);
}

BOOST_AUTO_TEST_CASE(no_more_are_kept_than_the_most) {
  buffer_pool pool(size);
  take_at_once(pool, buffer_pool::kept_max + 5);
  BOOST_TEST(pool.kept() == buffer_pool::kept_max);
}

BOOST_AUTO_TEST_CASE(a_buffer_outlives_its_pool) {
  std::shared_ptr<buffer> one;
  {
    buffer_pool pool(size);
    one = pool.take(size);
  }
  BOOST_TEST(one->size() == size);
}

BOOST_AUTO_TEST_SUITE_END()
