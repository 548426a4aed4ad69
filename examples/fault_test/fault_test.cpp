// Fault tests with the fixtures: three sites train, things happen to them, and what a run promises must hold. Each test takes a fraction of
// a second, since time, network and disk are simulated; docs/fault_tests.md explains it from the beginning.
#define BOOST_TEST_MODULE fault_test
#include "actors/testing/boost_test.hpp"

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;

BOOST_FIXTURE_TEST_CASE(a_killed_site_comes_back, three_sites) {
  cluster.kill(site{1}, at(1s), back_after(500ms));
  cluster.run_to_the_end();
  expect_balanced(cluster.ledgers());
  expect_same_anchor(cluster);
}

BOOST_FIXTURE_TEST_CASE(two_sites_that_do_not_hear_each_other, three_sites) {
  cluster.cut(site{0}, site{2}, from(1s), lasting(3s));
  cluster.run_to_the_end();
  expect_balanced(cluster.ledgers());
  expect_same_anchor(cluster);
  BOOST_TEST(cluster.has_event("link_down", "no heartbeat"));
}

BOOST_FIXTURE_TEST_CASE(rounds_go_on_without_the_coordinator, three_sites) {
  cluster.kill(coordinator, at(1s), back_after(2s));
  cluster.run_for(1s);
  const auto before = cluster.last_round();
  cluster.run_to_round(before + 2, 2s);  // while it is away
  expect_good_end(cluster);              // ends the run, and checks ledgers and anchors
}

// Twenty runs that differ in all that is left to chance: delays, the order in which actors run, the weights to begin with.
BOOST_AUTO_TEST_CASE(a_bad_day) {
  over_seeds({1, 20}, {.sites = 3, .overrides = {"round.codec=sparse_loco"}}, [](fault_cluster& cluster) {
    cluster.freeze(site{0}, from(600ms), lasting(2s));
    cluster.tear_next_frame(site{2}, at(700ms));
    cluster.slow(site{1}, 4, from(1s), lasting(1s));
    cluster.happens(at(3s), "the disk of s1 is full", [&] { cluster.disk.fill("run/checkpoints/site-1"); });
    cluster.happens(at(4s), "and has room again", [&] { cluster.disk.make_room("run/checkpoints/site-1"); });
    expect_good_end(cluster);
  });
}
