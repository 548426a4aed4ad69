#include "actors/sim/rehearsal.hpp"

#include "actors/testing/boost_test.hpp"
#include "framework/core/rare.hpp"

#include <boost/test/unit_test.hpp>
#include <hwy/targets.h>

#include <algorithm>
#include <map>
#include <string>

using namespace isthmus;
using namespace isthmus::actors;
using namespace std::chrono_literals;

namespace {

recipe shipped(const std::vector<std::string>& overrides = {}) { return *load_recipe("recipes/faults.toml", overrides); }

std::string words(const rehearsal_result& r) {
  std::string text = "seed " + std::to_string(r.seed) + ": " + r.failure;
  for (const auto& finding : r.findings) text += "\n" + finding;
  return text;
}

sim::planned_fault numbered(int n) {
  sim::planned_fault f;
  f.site = static_cast<site_id>(n);
  return f;
}

bool holds(const std::vector<sim::planned_fault>& faults, site_id n) {
  return std::any_of(faults.begin(), faults.end(), [&](const auto& f) { return f.site == n; });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(rehearsal_test)

BOOST_AUTO_TEST_CASE(every_promise_holds_under_the_shipped_faults) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const auto r = rehearse(shipped(), seed);
    BOOST_TEST(r.good(), words(r));
    BOOST_TEST(r.rounds > 0U);
  }
}

// Found by seeds (173): two sites that were late, each in another group, waited for each other, because the quorum was everybody.
BOOST_AUTO_TEST_CASE(a_quorum_of_everybody_never_waits_for_ever) {
  const auto plan = shipped({"scenario.draw_settings=false", "round.quorum=3"});
  for (std::uint64_t seed = 150; seed <= 180; ++seed) {
    const auto r = rehearse(plan, seed);
    BOOST_TEST(r.good(), words(r));
  }
  // and one of them was late again with each period, so that a round took as long as its longest deadline
  const auto drawn = rehearse(shipped(), 1047);
  BOOST_TEST(drawn.good(), words(drawn));
}

// Found by seeds: a flipped bit left a weight of some 1e11, which was committed, and momentum carried it beyond what sites may contribute.
BOOST_AUTO_TEST_CASE(a_flipped_bit_that_passes_for_a_number_stops_nobody) {
  for (const std::uint64_t seed : {2264, 3289, 6387, 7394}) {
    const auto r = rehearse(shipped(), seed);
    BOOST_TEST(r.good(), words(r));
  }
}

BOOST_AUTO_TEST_CASE(they_hold_with_a_hot_spare) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const auto r = rehearse(shipped({"sites.c.spare=true"}), seed);
    BOOST_TEST(r.good(), words(r));
  }
}

// Found by seeds: a round that closed too early, or the end of a fault, left sites and groups out of step, and two sites waited for each
// other by turns from then on (18 did not even end, the others took 794 s and 871 s). Without any wait it would be 600 s.
BOOST_AUTO_TEST_CASE(sites_that_have_lost_step_find_it_again) {
  const auto plan = *load_recipe("recipes/soak.toml", {"scenario.arithmetic=grid", "run.tokens=3600000", "scenario.fault_seconds=590"});
  for (const std::uint64_t seed : {18, 19, 38}) {
    const auto r = rehearse(plan, seed);
    BOOST_TEST(r.good(), words(r));
    BOOST_TEST(r.virtual_seconds < 720, "seed " << seed << " took " << r.virtual_seconds << " s");
  }
}

// Found by seeds (110, 126, 205, 260): a site came back when all others had ended, and called them for ever.
BOOST_AUTO_TEST_CASE(a_run_that_ends_while_a_site_is_down_ends_without_it) {
  const auto plan = shipped({"run.tokens=5760"});
  for (const std::uint64_t seed : {110, 126, 205, 260}) {
    const auto r = rehearse(plan, seed);
    BOOST_TEST(r.good(), words(r));
  }
}

BOOST_AUTO_TEST_CASE(every_rare_site_is_hit) {
  std::map<std::string, std::uint64_t> fired;
  for (std::uint64_t seed = 1; seed <= 60; ++seed)
    for (const auto& [site, n] : rehearse(shipped({"run.tokens=11520"}), seed).rare) fired[site] += n;
  for (const rare_site* site : rare_site::all()) BOOST_TEST(fired[site->name()] > 0U, site->name() << " never fired");
}

BOOST_AUTO_TEST_CASE(the_real_model_keeps_them_too) {
  const auto plan = shipped({"scenario.arithmetic=model", "run.tokens=11520", "train.warm_up_tokens=128"});
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    const auto r = rehearse(plan, seed);
    BOOST_TEST(r.good(), words(r));
  }
}

BOOST_AUTO_TEST_CASE(a_seed_tells_the_same_history_twice) {
  for (std::uint64_t seed = 100; seed < 106; ++seed) {
    const auto once = rehearse(shipped(), seed), again = rehearse(shipped(), seed);
    BOOST_TEST(once.history.hex() == again.history.hex(), "seed " << seed);
    BOOST_TEST(once.history.hex() != rehearse(shipped(), seed + 50).history.hex(), "seed " << seed);
  }
}

BOOST_AUTO_TEST_CASE(a_seed_tells_the_same_history_with_every_instruction_set) {
  const auto history = [](const recipe& plan, std::uint64_t seed) { return rehearse(plan, seed).history.hex(); };
  for (const auto& plan :
       {shipped({"scenario.draw_settings=false"}), shipped({"scenario.draw_settings=false", "round.codec=sparse_loco"}),
        shipped({"scenario.draw_settings=false", "scenario.arithmetic=model", "run.tokens=5760", "train.warm_up_tokens=128"})}) {
    const auto whole = history(plan, 3);
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
      hwy::SetSupportedTargetsForTest(target);
      hwy::GetChosenTarget().DeInit();
      BOOST_TEST(history(plan, 3) == whole, hwy::TargetName(target) << ", " << plan.round.codec << ", " << plan.scenario.arithmetic);
      hwy::SetSupportedTargetsForTest(0);
      hwy::GetChosenTarget().DeInit();
    }
  }
}

// Found by seeds: a site that was silent just long enough for the coordinator, and whose links held, never learnt that it was left out.
BOOST_AUTO_TEST_CASE(a_site_that_was_left_out_though_its_links_held_comes_back) {
  auto plan = shipped({"scenario.draw_settings=false", "scenario.stays_down=0"});
  plan.faults.clear();
  auto& f = plan.faults.emplace_back();
  f.at_seconds = 20;
  f.kind = "clog";
  f.site = "a";
  for (double silence = 0.6; silence < 1.3; silence += 0.0137) {
    plan.faults[0].back_after_seconds = silence;
    const auto r = rehearse(plan, 7);
    BOOST_TEST(r.good(), words(r) << " after a silence of " << silence << " s");
  }
}

BOOST_AUTO_TEST_CASE(a_frozen_site_is_done_without_and_goes_on_where_it_stood) {
  testing::fault_cluster c({.seed = 3, .sites = 3});
  c.run_to_round(3);
  c.freeze_site(1);
  const std::size_t losses = c.losses(1).size();
  const round_number before = c.last_round();
  c.run_to_round(before + 3, 20s);
  BOOST_TEST(c.losses(1).size() == losses);
  BOOST_TEST(c.has_event("decision", "site 1 is gone"));
  c.thaw_site(1);
  expect_good_end(c);
  BOOST_TEST(c.losses(1).size() > losses);
}

BOOST_AUTO_TEST_CASE(a_slow_site_takes_longer_for_the_same_steps) {
  const auto steps_in = [](double factor) {
    cluster c({.seed = 5, .sites = 1, .overrides = {"run.tokens=640000"}});
    c.start_all();
    c.slow_site(0, factor);
    c.run_for(10s);
    return static_cast<double>(c.losses(0).size());
  };
  BOOST_TEST(steps_in(1) / steps_in(4) > 3.0);
}

BOOST_AUTO_TEST_CASE(what_waits_for_a_slow_disk_does_nothing_else) {
  const auto rounds_in = [](duration each) {
    cluster c({.seed = 6, .sites = 3, .overrides = {"run.tokens=640000"}});
    for (site_id site = 0; site < 3; ++site) c.slow_disk(site, each);
    c.start_all();
    c.run_for(20s);
    return static_cast<double>(c.last_round());
  };
  const double fast = rounds_in(0s), slow = rounds_in(100ms);
  BOOST_TEST(slow > 3);
  BOOST_TEST(fast / slow > 1.5);
}

BOOST_AUTO_TEST_CASE(no_decision_reads_the_time_of_day) {
  const auto history = [](double jump) {
    cluster c({.seed = 8, .sites = 3, .overrides = {}});
    c.start_all();
    c.run_for(500ms);
    c.set_wall(1, jump);
    BOOST_TEST(c.run_until([&] { return c.all_finished(); }, 600s));
    double latest = 0;
    for (const auto& row : c.rows(1))
      if (const auto* s = std::get_if<sample_row>(&row)) latest = std::max(latest, s->wall);
    return std::pair(c.world.digest().hex(), latest);
  };
  const auto straight = history(0), ahead = history(262), behind = history(-262);
  BOOST_TEST(straight.first == ahead.first);
  BOOST_TEST(straight.first == behind.first);
  BOOST_TEST(ahead.second - straight.second > 261.0);
}

BOOST_AUTO_TEST_CASE(a_checkpoint_that_rotted_is_passed_over) {
  auto plan = shipped({"scenario.draw_settings=false", "scenario.stays_down=0", "checkpoint.every_rounds=1"});
  plan.faults.clear();
  const auto add = [&](const char* kind, double at, double back) {
    auto& f = plan.faults.emplace_back();
    f.kind = kind;
    f.site = "a";
    f.at_seconds = at;
    f.back_after_seconds = back;
  };
  add("rot", 20, 0);
  add("kill", 20.001, 2);
  bool passed_over = false;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    std::string told;
    const auto r = rehearse(plan, seed, {[&](const std::string& line) { told += line + "\n"; }, nullptr});
    BOOST_TEST(r.good(), words(r));
    BOOST_TEST(r.faults.at("rot") == 1U);
    passed_over = passed_over || told.find("damaged") != std::string::npos;
  }
  BOOST_TEST(passed_over);
}

BOOST_AUTO_TEST_CASE(a_step_that_made_a_nan_reaches_no_peer) {
  auto plan = shipped({"scenario.draw_settings=false", "scenario.stays_down=0"});
  plan.faults.clear();
  auto& f = plan.faults.emplace_back();
  f.kind = "nan";
  f.site = "b";
  f.at_seconds = 15;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    const auto r = rehearse(plan, seed);
    BOOST_TEST(r.good(), words(r));
    BOOST_TEST(r.ledger.vetoes > 0U, "seed " << seed);
  }
}

BOOST_AUTO_TEST_CASE(shrinking_finds_the_faults_that_matter) {
  std::vector<sim::planned_fault> all;
  for (int i = 0; i < 37; ++i) all.push_back(numbered(i));
  int asked = 0;
  const auto fewest = shrink(all, [&](const auto& some) {
    ++asked;
    return holds(some, 5) && holds(some, 6) && holds(some, 31);
  });
  BOOST_TEST(fewest.size() == 3U);
  BOOST_TEST((holds(fewest, 5) && holds(fewest, 6) && holds(fewest, 31)));
  BOOST_TEST(asked <= 100);
  BOOST_TEST(shrink(all, [](const auto&) { return true; }).empty());
  BOOST_TEST(shrink(all, [](const auto& some) { return some.size() == 37U; }).size() == 37U);
  BOOST_TEST(shrink({}, [](const auto&) { return true; }).empty());
}

BOOST_AUTO_TEST_SUITE_END()
