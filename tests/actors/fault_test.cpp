#include "actors/testing/boost_test.hpp"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <map>
#include <string>

using namespace isthmus;
using namespace isthmus::actors;
using namespace isthmus::testing;
using namespace std::chrono_literals;

namespace {

void expect_good_end(cluster& c, duration limit = 600s) {
  BOOST_TEST(c.run_until([&] { return c.all_finished(); }, limit), "the run did not end; round " << c.last_round());
  const auto report = c.ledgers();
  BOOST_TEST(report.balanced(), c.describe_violations());
  BOOST_TEST(report.last_anchor.size() == 2U);
}

/// Cuts a site off from everybody: both ends still believe in their links until they miss the beats.
void isolate(cluster& c, site_id site) {
  for (const site_id other : {0U, 1U, 2U, coordinator_id})
    if (other != site) c.net.cut_both(site, other);
}

/// Site 0 is left out of the epoch that then loses both its members and with them rounds that site 0 has applied: they come back from
/// older checkpoints, and what site 0 has beyond these is void.
void lose_the_others_rounds(cluster& c) {
  isolate(c, 0);
  BOOST_TEST_REQUIRE(c.run_until([&] { return c.has_event("decision", "of sites 1, 2: site 0 is gone"); }, 30s));
  c.kill_site(1);
  c.kill_site(2);
  c.run_for(2s);
  c.start_site(1);
  c.start_site(2);
  BOOST_TEST_REQUIRE(c.run_until([&] { return c.has_event("decision", "epoch 3 of sites 1, 2"); }, 60s));
  c.net.heal_all();
}

/// Rounds told after that time that have the site's contribution.
int rounds_with(cluster& c, const std::string& site, double after_wall) {
  int found = 0;
  for (const site_id home : {0U, 1U, 2U})
    for (const auto& row : c.rows(home))
      if (const auto* r = std::get_if<round_row>(&row); r && r->wall > after_wall) found += r->contributors.find(site) != std::string::npos;
  return found;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(fault_test)

BOOST_AUTO_TEST_CASE(rounds_that_a_restart_voids_are_rolled_back_and_trained_again) {
  for (std::uint64_t seed = 30; seed < 38; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      cluster c({.seed = seed, .sites = 3, .overrides = {}, .gradient_takes = 300ms});  // time enough to come back before the end
      c.start_all();
      BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 5; }, 60s));  // checkpoints hold round 3
      lose_the_others_rounds(c);
      expect_good_end(c);
      BOOST_TEST(c.has_event("rolled_back", "later rounds are void"));
      BOOST_TEST(c.ledgers().records_void >= 2U);
      BOOST_TEST(c.ledgers().returned > 0U);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_site_whose_end_becomes_void_trains_on) {
  for (std::uint64_t seed = 40; seed < 46; ++seed) {
    const bool in_time = seed % 2 == 0;  // else the run is over before it is back, and what it had done counts as written off
    BOOST_TEST_CONTEXT("seed " << seed) {
      cluster c({.seed = seed,
                 .sites = 3,
                 .overrides = {"checkpoint.every_rounds=" + std::string(in_time ? "20" : "3")},
                 .gradient_takes = in_time ? 300ms : 50ms});
      c.start_all();
      BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 9; }, 120s));
      for (const site_id other : {1U, 2U}) c.net.set_path(0, other, {.delay = 400ms});  // the last commit of its group reaches nobody else
      const auto finished = [&] {
        for (const auto& row : c.rows(0))
          if (const auto* s = std::get_if<site_row>(&row); s && s->state == "finished") return true;
        return false;
      };
      BOOST_TEST_REQUIRE(c.run_until(finished, 60s));
      BOOST_TEST_REQUIRE(!c.exit_code(1));
      const double ended = c.world.wall_seconds();
      lose_the_others_rounds(c);
      expect_good_end(c);
      BOOST_TEST(c.has_event("reopened", "void") == in_time);
      BOOST_TEST((rounds_with(c, "0", ended) > 0) == in_time);
      BOOST_TEST((c.ledgers().written_off > 0) == !in_time);
    }
  }
}

BOOST_AUTO_TEST_CASE(weights_that_are_no_numbers_reach_nobody_and_the_site_begins_again) {
  const auto spoil = [](site_id site, incarnation_number incarnation, const optimizer_slice& s) {
    if (site == 1 && incarnation == 1 && s.step == 11) s.weights[static_cast<std::size_t>(s.begin)] = std::nanf("");
  };
  cluster c({.seed = 13, .sites = 3, .overrides = {}, .after_update = spoil});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.exit_code(1).has_value(); }, 60s));
  BOOST_TEST(c.exit_code(1).value() == 1);
  BOOST_TEST(c.has_event("vetoed", "begins again from its last checkpoint"));
  c.run_for(1s);
  BOOST_TEST(c.ledgers().balanced(), c.describe_violations());
  BOOST_TEST(c.ledgers().vetoes > 0U);
  c.start_site(1);
  expect_good_end(c);
  BOOST_TEST(c.ledgers().outstanding == 0U);
  for (const site_id site : {0U, 1U, 2U})
    for (const double loss : c.losses(site)) BOOST_TEST((std::isfinite(loss) || site == 1));
}

BOOST_AUTO_TEST_CASE(a_killed_site_is_done_without_and_comes_back) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      cluster c({.seed = seed, .sites = 3, .overrides = {}});
      c.start_all();
      BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 4; }, 60s));
      c.run_for(duration(seed * 7'000'000));
      c.kill_site(1);
      const round_number at_kill = c.last_round();
      BOOST_TEST(c.run_until([&] { return c.last_round() >= at_kill + 2; }, 10s), "the others stopped at round " << c.last_round());
      c.start_site(1);
      expect_good_end(c);
      std::map<group_id, int> with_all;  // rounds since
      for (const site_id home : {0U, 2U})
        for (const auto& row : c.rows(home))
          if (const auto* r = std::get_if<round_row>(&row); r && r->round > at_kill + 2) with_all[r->group] += r->contributors == "0,1,2";
      BOOST_TEST(with_all[0] > 0);
      BOOST_TEST(with_all[1] > 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_home_killed_at_any_time_leaves_one_history) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      cluster c({.seed = seed, .sites = 3, .overrides = {"run.tokens=2880"}});
      c.start_all();
      BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 2; }, 60s));
      c.run_for(duration(seed * 9'300'000));  // somewhere in a round: training, contributing, storing, committing
      c.kill_site(static_cast<site_id>(seed % 3));
      c.run_for(4s);
      c.start_site(static_cast<site_id>(seed % 3));
      expect_good_end(c);
    }
  }
}

using three_sites_of_seed_3 = simulated_sites<3, 3>;
using three_sites_of_seed_4 = simulated_sites<3, 4>;
using three_sites_of_seed_5 = simulated_sites<3, 5>;

BOOST_FIXTURE_TEST_CASE(rounds_go_on_without_the_coordinator_and_a_new_one_takes_over, three_sites_of_seed_3) {
  cluster.run_to_round(2);
  cluster.kill_coordinator();
  cluster.run_to_round(cluster.last_round() + 3, 20s);
  cluster.start_coordinator();
  expect_good_end(cluster);
}

BOOST_FIXTURE_TEST_CASE(a_silent_link_is_noticed_and_the_site_comes_back_when_it_heals, three_sites_of_seed_4) {
  cluster.run_to_round(3);
  cluster.isolate(site{2}, from(cluster.now().time), lasting(7s));
  cluster.run_to_round(cluster.last_round() + 2, 6s);  // the majority goes on
  expect_good_end(cluster);
  BOOST_TEST(cluster.has_event("link_down", "no heartbeat"));
}

BOOST_FIXTURE_TEST_CASE(a_torn_frame_is_refused_and_nothing_is_lost, three_sites_of_seed_5) {
  cluster.run_to_round(2);
  for (const site one : {site{0}, site{1}, site{2}}) {
    cluster.tear_next_frame(one, cluster.now());
    cluster.run_for(700ms);
  }
  expect_good_end(cluster);
}

BOOST_AUTO_TEST_CASE(everybody_killed_at_once_goes_on_from_the_checkpoints) {
  cluster c({.seed = 6, .sites = 3, .overrides = {}});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 8; }, 120s));
  for (const site_id site : {0U, 1U, 2U}) c.kill_site(site);
  c.kill_coordinator();
  c.run_for(1s);
  c.start_all();
  expect_good_end(c);
}

BOOST_AUTO_TEST_CASE(a_site_whose_checkpoints_are_gone_copies_from_peers_and_never_uses_a_number_twice) {
  cluster c({.seed = 9, .sites = 3, .overrides = {}});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 8; }, 120s));
  c.kill_site(0);
  c.run_for(1s);
  BOOST_REQUIRE(c.disk.open("run")->remove("checkpoints/site-0").has_value());
  c.start_site(0);
  expect_good_end(c);
}

BOOST_AUTO_TEST_CASE(a_stop_on_purpose_saves_and_resumes) {
  cluster c({.seed = 7, .sites = 3, .overrides = {}});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 5; }, 120s));
  for (const site_id site : {0U, 1U, 2U}) c.drain_site(site);
  BOOST_TEST(c.run_until([&] { return c.exit_code(0) == 7 && c.exit_code(1) == 7 && c.exit_code(2) == 7; }, 60s));
  c.kill_coordinator();
  c.run_for(1s);
  c.start_all();
  expect_good_end(c);
}

BOOST_AUTO_TEST_CASE(who_is_asked_to_stop_ends_even_where_no_round_can) {
  cluster c({.seed = 10, .sites = 3, .overrides = {}});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 3; }, 60s));
  for (const site_id gone : {0U, 1U, coordinator_id}) c.kill_site(gone);
  c.run_for(80ms);
  c.drain_site(2);
  BOOST_TEST(c.run_until([&] { return c.exit_code(2) == 7; }, 120s));
  c.run_for(1s);
  c.start_all();
  expect_good_end(c);
}

BOOST_AUTO_TEST_CASE(a_coordinator_asked_to_stop_ends_once_the_sites_have_left) {
  cluster c({.seed = 11, .sites = 3, .overrides = {}});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 3; }, 60s));
  for (const site_id site : {coordinator_id, 0U, 1U, 2U}) c.drain_site(site);
  BOOST_TEST(c.run_until([&] { return c.exit_code(coordinator_id) == 7; }, 60s));
  for (const site_id site : {0U, 1U, 2U}) BOOST_TEST(c.exit_code(site).value_or(-1) == 7);
}

BOOST_AUTO_TEST_CASE(tokens_are_counted_on_across_a_restart) {
  cluster c({.seed = 12, .sites = 3, .overrides = {}});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 4; }, 60s));
  c.kill_site(1);
  c.run_for(1s);
  c.start_site(1);
  expect_good_end(c);
  site_row last;
  for (const auto& row : c.rows(1))
    if (const auto* s = std::get_if<site_row>(&row)) last = *s;
  BOOST_TEST(last.step > 0U);
  BOOST_TEST(last.tokens == last.step * static_cast<std::uint64_t>(c.plan.train.tokens_per_step));
}

BOOST_AUTO_TEST_CASE(one_site_stopped_anywhere_repeats_the_unbroken_run_bit_for_bit) {
  const std::vector<std::string> overrides{"run.tokens=2880", "round.codec=sparse_loco"};
  cluster whole({.seed = 8, .sites = 1, .overrides = overrides});
  whole.start_all();
  BOOST_REQUIRE(whole.run_until([&] { return whole.all_finished(); }, 300s));
  const auto expected = whole.losses(0);
  // A killed process takes the rows along that it had not written, half a second's: never those of steps that a checkpoint stands for.
  for (const auto& [killed, later] : {std::pair{false, 80ms}, {true, 5ms}, {true, 80ms}, {true, 170ms}, {true, 260ms}, {true, 350ms}}) {
    cluster c({.seed = 8, .sites = 1, .overrides = overrides});
    c.start_all();
    BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 7; }, 300s));
    c.run_for(later);
    if (killed) {
      c.kill_site(0);
    } else {
      c.drain_site(0);
      BOOST_TEST(c.run_until([&] { return c.exit_code(0) == 7; }, 60s));
    }
    c.kill_coordinator();
    c.run_for(1s);
    c.start_all();
    BOOST_TEST(c.run_until([&] { return c.all_finished(); }, 300s));
    std::map<step_number, double> by_step;  // a repeated step overwrites what the killed process said of it
    for (const auto& row : c.rows(0))
      if (const auto* s = std::get_if<sample_row>(&row)) by_step[s->step] = s->loss;
    BOOST_TEST_REQUIRE(by_step.size() == expected.size(), "rows are missing, killed " << later.count() << " ms after round 7");
    for (const auto& [step, loss] : by_step) BOOST_TEST(loss == expected[step - 1]);
    BOOST_TEST(c.ledgers().balanced(), c.describe_violations());
  }
}

BOOST_AUTO_TEST_CASE(a_site_goes_on_with_the_devices_that_are_left) {
  cluster c({.seed = 9, .sites = 2, .overrides = {"sites.0.devices=2"}});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 3; }, 60s));
  for (int i = 0; i < 7; ++i) {  // more often than its restart budget allows
    c.fail_device(0, 1);
    c.run_for(150ms);
  }
  BOOST_TEST(c.has_event("crash", "device 1"));
  expect_good_end(c);
}

BOOST_AUTO_TEST_SUITE_END()
