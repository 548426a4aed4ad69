// Who does not belong to the run, links that fail, and a coordinator without a log.
#include "actors/incarnation.hpp"
#include "actors/sim/cluster.hpp"
#include "framework/rounds/file_log.hpp"

#include <boost/test/unit_test.hpp>

#include <string>

using namespace isthmus;
using namespace isthmus::actors;
using namespace std::chrono_literals;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// All but one site finish, and the ledgers balance.
void expect_good_end_without(cluster& c, site_id left_out) {
  const auto finished = [&] {
    for (const site_id site : {0U, 1U, 2U})
      if (site != left_out && c.exit_code(site) != 0) return false;
    return true;
  };
  BOOST_TEST(c.run_until(finished, 600s), "the run did not end; round " << c.last_round());
  BOOST_TEST(c.ledgers().balanced(), c.describe_violations());
}

void expect_good_end(cluster& c) { expect_good_end_without(c, 3); }

/// That a site heard of an epoch.
bool was_told(cluster& c, epoch_number epoch) { return c.has_event("epoch", "epoch " + std::to_string(epoch) + " with"); }

}  // namespace

BOOST_AUTO_TEST_SUITE(refusal_test)

BOOST_AUTO_TEST_CASE(a_site_with_another_recipe_ends_with_both_hashes_and_the_others_go_on) {
  for (const site_id odd : {0U, 2U})  // site 2 calls the others, site 0 is called by them
    BOOST_TEST_CONTEXT("site " << odd) {
      cluster c({.seed = 20, .sites = 3, .overrides = {}});
      recipe other = c.plan;
      other.train.learning_rate = 0.02;
      c.start_coordinator();
      for (const site_id site : {0U, 1U, 2U})
        c.start_site(site, site == odd ? std::vector<std::string>{"train.learning_rate=0.02"} : std::vector<std::string>{});
      BOOST_REQUIRE(c.run_until([&] { return c.exit_code(odd).has_value(); }, 30s));
      BOOST_TEST(c.exit_code(odd).value() == 6);
      for (const recipe* r : {&c.plan, &other}) BOOST_TEST(contains(c.exit_reason(odd), recipe_hash(*r).hex()), c.exit_reason(odd));
      expect_good_end_without(c, odd);
      if (odd == 0) BOOST_TEST(c.has_event("refused", recipe_hash(other).hex()));
    }
}

BOOST_AUTO_TEST_CASE(a_site_with_an_old_copy_of_its_disk_comes_back_as_a_later_incarnation) {
  cluster c({.seed = 21, .sites = 3, .overrides = {}});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 2; }, 60s));
  c.kill_site(1);
  c.start_site(1);
  BOOST_REQUIRE(c.run_until([&] { return c.has_event("decision", "site 1 has caught up"); }, 60s));
  c.run_for(1s);
  c.kill_site(1);
  c.wipe_site(1);
  BOOST_REQUIRE(expect_first_start(*c.disk.open("run"), own_folder(1)).has_value());  // a copy from before the run
  c.start_site(1);
  BOOST_REQUIRE(c.run_until([&] { return c.exit_code(1).has_value(); }, 30s));
  BOOST_TEST(c.exit_code(1).value() == 1);
  BOOST_TEST(contains(c.exit_reason(1), "incarnation 1 meets what incarnation 2 has replaced"), c.exit_reason(1));
  BOOST_REQUIRE(c.run_until([&] { return !c.running(1); }, 1s));
  c.start_site(1);  // as incarnation 8
  expect_good_end(c);
}

BOOST_AUTO_TEST_CASE(a_site_that_lost_its_disk_comes_back_at_once_and_bears_no_number_that_was_used) {
  cluster c({.seed = 25, .sites = 3, .overrides = {}});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 3; }, 60s));
  c.kill_site(1);
  c.wipe_site(1);
  c.start_site(1);
  expect_good_end(c);
  BOOST_TEST(c.exit_code(1).value() == 0);
  bool later = false;
  for (const auto& row : c.rows(1))
    if (const auto* s = std::get_if<site_row>(&row)) later = later || s->incarnation >= 1U << 20;
  BOOST_TEST(later);
}

BOOST_AUTO_TEST_CASE(sites_that_were_admitted_do_not_believe_a_stranger_at_the_coordinators_address) {
  cluster c({.seed = 22, .sites = 3, .overrides = {}, .gradient_takes = 300ms});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 2; }, 60s));
  const recipe ours = c.plan;
  c.kill_coordinator();
  c.plan.train.learning_rate = 0.02;
  c.start_coordinator();
  BOOST_REQUIRE(c.run_until([&] { return c.has_event("refused", recipe_hash(c.plan).hex()); }, 30s));
  c.run_for(5s);
  for (const site_id site : {0U, 1U, 2U}) BOOST_TEST(c.running(site));
  c.kill_coordinator();
  c.plan = ours;
  c.start_coordinator();
  expect_good_end(c);
}

BOOST_AUTO_TEST_CASE(a_link_whose_actor_fails_is_begun_again) {
  for (const auto& [site, peer] : {std::pair<site_id, site_id>{coordinator_id, 1}, {0, 1}, {1, 0}, {2, coordinator_id}})
    BOOST_TEST_CONTEXT("link of " << site << " to " << peer) {
      cluster c({.seed = 23, .sites = 3, .overrides = {}});
      c.start_all();
      BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 3; }, 60s));
      c.fail_link(site, peer);
      c.run_for(100ms);
      BOOST_TEST(c.has_event("crash", "restarted"));
      expect_good_end(c);
    }
}

BOOST_AUTO_TEST_CASE(a_coordinator_whose_link_keeps_failing_ends_and_the_next_one_goes_on) {
  cluster c({.seed = 24, .sites = 3, .overrides = {}, .gradient_takes = 300ms});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 2; }, 60s));
  for (int i = 0; i < 6; ++i) {
    BOOST_TEST(!c.exit_code(coordinator_id).has_value());
    c.fail_link(coordinator_id, 2);
    c.run_for(500ms);
  }
  BOOST_TEST_REQUIRE(c.run_until([&] { return c.exit_code(coordinator_id).has_value(); }, 10s));
  BOOST_TEST(c.exit_code(coordinator_id).value() == 1);
  BOOST_TEST(contains(c.exit_reason(coordinator_id), "link to site 2 keeps failing"), c.exit_reason(coordinator_id));
  c.kill_coordinator();
  c.start_coordinator();
  expect_good_end(c);
}

BOOST_AUTO_TEST_CASE(nobody_hears_of_an_epoch_that_another_coordinators_entry_kept_out_of_the_log) {
  cluster c({.seed = 25, .sites = 3, .overrides = {}});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 2; }, 60s));
  {
    const auto disk = c.disk.open("run");
    auto log = *file_log::open(*disk, "coordinator.jsonl");
    auto entry = log.entries().back();
    ++entry.view.number;
    BOOST_TEST_REQUIRE(log.append(entry).has_value());
  }
  c.kill_site(1);
  BOOST_REQUIRE(c.run_until([&] { return c.exit_code(coordinator_id).has_value(); }, 30s));
  BOOST_TEST(c.exit_code(coordinator_id).value() == 1);
  BOOST_TEST(contains(c.exit_reason(coordinator_id), "another coordinator has taken over"), c.exit_reason(coordinator_id));
  c.start_site(1);  // it calls, and would be told of whatever the old one takes for its view
  c.run_for(20s);
  BOOST_TEST(!was_told(c, 2));
  BOOST_TEST(!c.has_event("decision", "epoch 2 of"));
}

BOOST_AUTO_TEST_CASE(a_full_disk_ends_the_coordinator_in_its_own_words) {
  cluster c({.seed = 26, .sites = 3, .overrides = {}});
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 2; }, 60s));
  c.disk.fill("run/coordinator.jsonl");
  c.kill_site(1);
  BOOST_REQUIRE(c.run_until([&] { return c.exit_code(coordinator_id).has_value(); }, 30s));
  BOOST_TEST(c.exit_code(coordinator_id).value() == 4);
  BOOST_TEST(contains(c.exit_reason(coordinator_id), "the log could not be extended: cannot"), c.exit_reason(coordinator_id));
  BOOST_TEST(contains(c.exit_reason(coordinator_id), "no space left"), c.exit_reason(coordinator_id));
  BOOST_TEST(c.has_event("disk_full", "no space left"));
  BOOST_TEST(!was_told(c, 2));
}

BOOST_AUTO_TEST_SUITE_END()
