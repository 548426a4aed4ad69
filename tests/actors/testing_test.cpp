// The words of fault tests do what they say, and a failure tells the seed and what was promised.
#include "actors/testing/boost_test.hpp"

#include <boost/test/unit_test.hpp>

#include <stdexcept>
#include <string>

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;

namespace {

/// What run() throws, in words; empty when it throws nothing.
template <class Run>
std::string complaint(Run&& run) {
  try {
    run();
    return "";
  } catch (const std::runtime_error& e) { return e.what(); }
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

BOOST_AUTO_TEST_SUITE(testing_test)

BOOST_FIXTURE_TEST_CASE(a_killed_site_is_away_and_comes_back, three_sites) {
  cluster.kill(site{1}, at(800ms), back_after(3s));
  cluster.run_for(799ms);
  BOOST_TEST(cluster.running(1));
  cluster.run_for(2ms);
  BOOST_TEST(!cluster.running(1));
  cluster.run_for(3s);
  BOOST_TEST(cluster.running(1));
  cluster.run_to_the_end();
  expect_balanced(cluster.ledgers());
  expect_same_anchor(cluster);
}

BOOST_FIXTURE_TEST_CASE(who_is_killed_for_good_is_not_waited_for, three_sites) {
  cluster.kill(site{2}, at(1s));
  cluster.kill(coordinator, at(2s), back_after(1s));
  expect_good_end(cluster);
  BOOST_TEST(!cluster.exit_code(2).has_value());
  BOOST_TEST(cluster.exit_code(0).value() == 0);
}

BOOST_FIXTURE_TEST_CASE(a_frozen_site_thaws, three_sites) {
  cluster.freeze(site{1}, from(1s), lasting(2s));
  cluster.run_for(1500ms);
  BOOST_TEST(cluster.frozen(1));
  cluster.run_for(1600ms);
  BOOST_TEST(!cluster.frozen(1));
  expect_good_end(cluster);
}

BOOST_FIXTURE_TEST_CASE(a_cut_is_noticed_and_heals, three_sites) {
  cluster.isolate(site{2}, from(1s), lasting(4s));
  cluster.run_for(3s);
  BOOST_TEST(cluster.has_event("link_down", "no heartbeat"));
  expect_good_end(cluster);
  BOOST_TEST(cluster.exit_code(2).value() == 0);
}

BOOST_FIXTURE_TEST_CASE(a_slow_site_is_slow_for_a_while, one_site) {
  cluster.slow(site{0}, 10, from(1s), lasting(1s));
  cluster.run_for(1s);
  const auto before = cluster.losses(0).size();
  cluster.run_for(1s);
  const auto slow = cluster.losses(0).size() - before;
  cluster.run_for(1s);
  const auto after = cluster.losses(0).size() - before - slow;
  BOOST_TEST(3 * slow < after);
}

BOOST_AUTO_TEST_CASE(many_seeds_many_histories) {
  std::string last;
  over_seeds({3, 5}, {}, [&](fault_cluster& cluster) {
    cluster.tear_next_frame(site{0}, at(500ms));
    expect_good_end(cluster);
    const auto history = cluster.world.digest().hex();
    BOOST_TEST(history != last);
    last = history;
  });
}

BOOST_AUTO_TEST_CASE(a_site_that_fails_is_started_again_but_not_for_ever) {
  fault_cluster one({.seed = 2, .sites = 1});
  one.happens(at(1s), "the trainer fails", [&] { one.fail_child(0, "trainer"); });
  expect_good_end(one);

  fault_cluster hopeless({.seed = 2, .sites = 1, .before_work = [](site_id, std::uint32_t, actors::device_work) {
                            throw std::runtime_error("a device of glass");
                          }});
  BOOST_TEST(has(complaint([&] { hopeless.run_to_the_end(); }), "s0 ended with 1 once more"));
}

BOOST_AUTO_TEST_CASE(a_failure_tells_seed_faults_and_state) {
  fault_cluster cluster({.seed = 77, .sites = 3, .gradient_takes = 500ms});
  cluster.kill(site{1}, at(1s), back_after(1h));
  cluster.freeze(site{0}, from(2s), lasting(1h));
  const auto words = complaint([&] { cluster.run_to_the_end(10s); });
  for (const std::string part : {"the run did not end within 10 s", "seed 77", "1 s: kill of s1, back after 3600 s",
                                 "2 s: freeze of s0, for 3600 s", "s0 is frozen", "s1 is away", "s2 is at work"})
    BOOST_TEST(has(words, part), part << " is not in: " << words);
  BOOST_TEST(has(complaint([&] { cluster.run_to_round(1000, 1s); }), "round 1000 was not reached within 1 s"));
  BOOST_CHECK_THROW(cluster.kill(site{1}, at(1s)), contract_error);
}

BOOST_FIXTURE_TEST_CASE(another_anchor_is_found, two_sites) {
  BOOST_TEST(anchor_differences(cluster, {}) == "no site has finished with the last round\n");
  cluster.run_to_the_end();
  auto ledgers = cluster.ledgers();
  BOOST_TEST(anchor_differences(cluster, ledgers) == "");
  ledgers.last_anchor.at(1).low ^= 1;
  const auto words = anchor_differences(cluster, ledgers);
  for (const std::string part : {"s0 has another anchor of group 1", "s1 has another anchor of group 1"})
    BOOST_TEST(has(words, part), words);
}

BOOST_AUTO_TEST_SUITE_END()
