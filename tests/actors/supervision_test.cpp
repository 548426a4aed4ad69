// Each kind of child of a site fails: it is begun again, or the site ends and a new one goes on, as docs/architecture.md says.
#include "actors/sim/cluster.hpp"

#include <boost/test/unit_test.hpp>

#include <set>
#include <string>

using namespace isthmus;
using namespace isthmus::actors;
using namespace std::chrono_literals;

namespace {

void expect_good_end(cluster& c) {
  BOOST_TEST(c.run_until([&] { return c.all_finished(); }, 600s), "the run did not end; round " << c.last_round());
  BOOST_TEST(c.ledgers().balanced(), c.describe_violations());
  BOOST_TEST(c.ledgers().outstanding == 0U);
}

template <class Row>
int rows_since(cluster& c, site_id site, double wall) {
  int found = 0;
  for (const auto& row : c.rows(site))
    if (const auto* r = std::get_if<Row>(&row)) found += r->wall > wall;
  return found;
}

/// A cluster of one site that has passed round 2.
struct one_site : cluster {
  explicit one_site(std::uint64_t seed, std::vector<std::string> overrides = {}, duration gradient_takes = 50ms)
      : cluster({.seed = seed, .sites = 1, .overrides = std::move(overrides), .gradient_takes = gradient_takes}) {
    start_all();
    BOOST_REQUIRE(run_until([&] { return last_round() >= 2; }, 60s));
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(supervision_test)

BOOST_AUTO_TEST_CASE(a_service_that_fails_is_begun_again_and_measurements_go_on) {
  for (const auto& name :
       {std::string("metrics"), std::string("checkpoint"), std::string("link to 1"), "link to " + std::to_string(coordinator_id)})
    BOOST_TEST_CONTEXT(name) {
      cluster c({.seed = 21, .sites = 2, .overrides = {}});
      c.start_all();
      BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 3; }, 60s));
      const double crashed = c.world.wall_seconds();
      c.fail_child(0, name);
      expect_good_end(c);
      BOOST_TEST(c.has_event("crash", name + " failed"));
      BOOST_TEST(rows_since<sample_row>(c, 0, crashed) >= 20);
      BOOST_TEST(rows_since<round_row>(c, 0, crashed) >= 5);  // from its groups
      BOOST_TEST(rows_since<checkpoint_row>(c, 0, crashed) >= 2);
      BOOST_TEST(rows_since<evaluation_row>(c, 0, crashed) >= 1);
      BOOST_TEST(rows_since<link_row>(c, 0, crashed) >= 5);
      site_row last;
      for (const auto& row : c.rows(0))
        if (const auto* s = std::get_if<site_row>(&row)) last = *s;
      BOOST_TEST(last.state == "finished");
      BOOST_TEST(last.step > 40U);
      BOOST_TEST(last.tokens == last.step * static_cast<std::uint64_t>(c.plan.train.tokens_per_step));
    }
}

BOOST_AUTO_TEST_CASE(a_service_that_keeps_failing_ends_the_site) {
  for (const std::string name : {"metrics", "checkpoint"}) BOOST_TEST_CONTEXT(name) {
      one_site c(22, {}, 300ms);
      for (int i = 0; i < 5; ++i) {
        c.fail_child(0, name);
        c.run_for(100ms);
      }
      BOOST_TEST(!c.exit_code(0).has_value());
      c.fail_child(0, name);
      c.run_for(100ms);
      BOOST_TEST(c.exit_code(0).value_or(-1) == 1);
      c.start_site(0);
      expect_good_end(c);
    }
}

BOOST_AUTO_TEST_CASE(without_shard_group_or_trainer_the_site_ends_and_a_new_one_goes_on) {
  for (const std::string name : {"shard", "group 0", "group 1", "trainer"})
    for (std::uint64_t seed = 23; seed < 26; ++seed) BOOST_TEST_CONTEXT(name << ", seed " << seed) {
        cluster c({.seed = seed, .sites = 2, .overrides = {}});
        c.start_all();
        BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 4; }, 60s));
        c.run_for(duration((seed - 23) * 37'000'000));
        c.fail_child(0, name);
        c.run_for(50ms);
        BOOST_TEST_REQUIRE(c.exit_code(0).value_or(-1) == 1);
        const double crashed = c.world.wall_seconds();
        c.start_site(0);
        expect_good_end(c);
        BOOST_TEST(rows_since<sample_row>(c, 0, crashed) >= 20);
      }
}

BOOST_AUTO_TEST_CASE(a_site_that_cannot_write_its_ledger_ends_and_a_new_one_goes_on) {
  for (std::uint64_t seed = 30; seed < 36; ++seed) BOOST_TEST_CONTEXT("seed " << seed) {
      cluster c({.seed = seed, .sites = 3, .overrides = {}});
      c.start_all();
      BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 3; }, 60s));
      c.run_for(duration((seed - 30) * 23'000'000));
      c.disk.fill("run/ledger/site-1.jsonl");
      BOOST_REQUIRE(c.run_until([&] { return !c.running(1); }, 10s));
      BOOST_TEST(c.exit_code(1).value() == 4);
      BOOST_TEST(c.exit_reason(1).find("no space left") != std::string::npos, c.exit_reason(1));
      c.disk.make_room("run/ledger/site-1.jsonl");
      c.start_site(1);
      expect_good_end(c);
    }
}

BOOST_AUTO_TEST_CASE(a_run_is_not_finished_before_its_last_checkpoints_are) {
  cluster c({.seed = 36, .sites = 2, .overrides = {}});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 2; }, 60s));
  c.disk.fill("run/checkpoints");
  BOOST_REQUIRE(c.run_until([&] { return c.exit_code(0) && c.exit_code(1); }, 600s));
  for (const site_id site : {0U, 1U}) {
    BOOST_TEST(c.exit_code(site).value() == 4);
    BOOST_TEST(c.exit_reason(site).find("the last checkpoint is not written") != std::string::npos, c.exit_reason(site));
  }
  c.run_for(10s);
  BOOST_TEST(!c.has_event("decision", "the run is finished"));
  c.disk.make_room("run/checkpoints");
  for (const site_id site : {0U, 1U}) c.start_site(site);
  expect_good_end(c);
}

BOOST_AUTO_TEST_CASE(a_checkpoint_does_not_wait_for_measurements_for_ever) {
  one_site c(26, {}, 300ms);
  const auto before = c.ledgers().checkpoints;
  c.hold("metrics");
  c.run_for(14s);
  BOOST_TEST(c.ledgers().checkpoints > before);
  BOOST_TEST(!c.exit_code(0).has_value());
  c.let_go();
  expect_good_end(c);
  BOOST_TEST(c.has_event("rows_missing", "saved all the same"));
}

BOOST_AUTO_TEST_CASE(a_stop_does_not_wait_for_measurements_for_ever) {
  one_site c(27);
  c.hold("metrics");
  c.drain_site(0);
  BOOST_TEST(c.run_until([&] { return c.exit_code(0) == 7; }, 30s));
  c.let_go();
  c.run_for(1s);
  BOOST_TEST(c.ledgers().returned == 0U);
  c.kill_coordinator();
  c.start_all();
  expect_good_end(c);
  BOOST_TEST(c.ledgers().returned == 0U);  // the resumed site found its last checkpoint
}

BOOST_AUTO_TEST_CASE(a_last_checkpoint_that_fails_half_way_is_written_again) {
  one_site c(28);
  c.hold("checkpoint");
  c.drain_site(0);
  c.run_for(2s);
  BOOST_TEST(!c.exit_code(0).has_value());
  c.fail_child(0, "checkpoint");
  c.run_for(100ms);
  c.let_go();
  BOOST_TEST(c.run_until([&] { return c.exit_code(0) == 7; }, 60s));
  BOOST_TEST(c.has_event("crash", "checkpoint failed"));
  c.run_for(1s);
  BOOST_TEST(c.ledgers().outstanding == 0U);
  c.kill_coordinator();
  c.start_all();
  expect_good_end(c);
  BOOST_TEST(c.ledgers().returned == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
