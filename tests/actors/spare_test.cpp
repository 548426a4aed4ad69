// A hot spare: it holds what all hold, trains in the place of a site that is missing, and stands by again when that is back.
#include "actors/testing/boost_test.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <set>
#include <string>

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;

namespace {

/// Three sites and, last, a spare.
actors::cluster_options with_spare(std::uint64_t seed) {
  return {.seed = seed, .sites = 4, .overrides = {"sites.s3.spare=true", "run.tokens=57600"}};
}

/// Who has contributed to rounds of group 0 so far.
std::set<std::string> contributors(fault_cluster& cluster, round_number above) {
  std::set<std::string> out;
  for (site_id home = 0; home < cluster.site_count(); ++home)
    for (const auto& row : cluster.rows(home))
      if (const auto* round = std::get_if<round_row>(&row); round != nullptr && round->group == 0 && round->round > above)
        for (const char c : round->contributors)
          if (c != ',') out.insert(std::string(1, c));
  return out;
}

std::set<std::string> between(fault_cluster& cluster, duration time) {
  const round_number before = cluster.last_round() + 1;  // one that is under way may still count who has gone
  cluster.run_for(time);
  return contributors(cluster, before);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(spare_test)

BOOST_AUTO_TEST_CASE(a_spare_trains_in_the_place_of_a_lost_site_and_stands_by_when_it_is_back) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      fault_cluster cluster(with_spare(seed));
      cluster.kill(site{1}, at(2s), back_after(4s));
      const std::set<std::string> all_but_the_spare{"0", "1", "2"}, with_the_spare{"0", "2", "3"};
      BOOST_TEST((between(cluster, 2s) == all_but_the_spare));
      BOOST_TEST((between(cluster, 4s) == with_the_spare));
      cluster.run_for(2s);
      BOOST_TEST((between(cluster, 2s) == all_but_the_spare));
      BOOST_TEST(cluster.has_event("decision", "stands by again"));
      cluster.run_to_the_end();
      expect_balanced(cluster.ledgers());
      expect_same_anchor(cluster);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_spare_that_is_lost_hinders_nobody) {
  fault_cluster cluster(with_spare(7));
  cluster.kill(site{3}, at(3s));
  expect_good_end(cluster);
}

BOOST_AUTO_TEST_CASE(a_spare_takes_over_for_good) {
  fault_cluster cluster(with_spare(8));
  cluster.kill(site{0}, at(3s));
  expect_good_end(cluster);
  BOOST_TEST(contributors(cluster, cluster.last_round() - 2).contains("3"));
}

BOOST_AUTO_TEST_SUITE_END()
