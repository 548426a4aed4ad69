#include "tests/framework/rounds/expect.hpp"

#include <boost/test/unit_test.hpp>

#include <string>

using namespace isthmus;
using testing::cluster;
using testing::cluster_settings;
using testing::expect_one_history;

BOOST_AUTO_TEST_SUITE(cluster_test)

BOOST_AUTO_TEST_CASE(sites_without_faults_reach_one_anchor) {
  for (const std::uint32_t sites : {1U, 2U, 3U, 5U}) {
    for (const bool down_residual : {false, true}) {
      cluster_settings settings;
      settings.sites = sites;
      settings.down_residual = down_residual;
      settings.outer = down_residual ? outer_kind::nesterov : outer_kind::plain;
      cluster c(settings);
      c.run();
      expect_one_history(c, settings, std::to_string(sites) + " sites");
      BOOST_TEST(c.total(&group_counters::divergences) == 0U);
      BOOST_TEST(c.total(&group_counters::records_void) == 0U);
      BOOST_TEST(c.round(0) >= settings.rounds);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
