#include "framework/sim/fault_plan.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <set>
#include <string>

using namespace isthmus;

namespace {

recipe shipped() { return *load_recipe("recipes/faults.toml"); }

bool same(const sim::planned_fault& a, const sim::planned_fault& b) {
  return a.trigger == b.trigger && a.at == b.at && a.kind == b.kind && a.site == b.site && a.peers == b.peers && a.lasts == b.lasts;
}

bool same(const std::vector<sim::planned_fault>& a, const std::vector<sim::planned_fault>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) { return same(x, y); });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(fault_plan_test)

BOOST_AUTO_TEST_CASE(a_seed_gives_the_same_faults_and_another_seed_others) {
  const recipe plan = shipped();
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      BOOST_TEST(same(sim::plan_faults(plan, seed), sim::plan_faults(plan, seed)));
      BOOST_TEST(!same(sim::plan_faults(plan, seed), sim::plan_faults(plan, seed + 1)));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_fault_comes_again_while_the_phase_lasts) {
  recipe plan = shipped();
  plan.faults.resize(1);
  plan.faults[0].every_seconds = 0;
  plan.faults[0].at_seconds = 5;
  plan.faults[0].again_after_seconds = 10;
  plan.faults[0].chance = 1;
  plan.scenario.fault_seconds = 35;
  std::vector<double> times;
  for (const auto& f : sim::plan_faults(plan, 3)) {
    times.push_back(to_seconds(f.at));
    BOOST_TEST(f.trigger.again_after_seconds == 0);  // as a fault of its own, it comes once
  }
  BOOST_TEST(times == (std::vector<double>{5, 15, 25}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(faults_lie_in_their_phase_in_order_and_a_fault_of_a_link_has_two_ends) {
  const recipe plan = shipped();
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    const auto faults = sim::plan_faults(plan, seed);
    for (const auto& f : faults) {
      BOOST_TEST(to_seconds(f.at) > 0);
      BOOST_TEST(to_seconds(f.at) <= plan.scenario.fault_seconds);
      BOOST_TEST(is_of_links(f.kind) == !f.peers.empty());
      BOOST_TEST((std::find(f.peers.begin(), f.peers.end(), f.site) == f.peers.end()), sim::describe(f));
    }
    BOOST_TEST(std::is_sorted(faults.begin(), faults.end(), [](const auto& a, const auto& b) { return a.at < b.at; }));
  }
}

BOOST_AUTO_TEST_CASE(every_kind_of_the_shipped_recipes_happens_and_each_fault_only_as_often_as_its_chance_says) {
  const recipe plan = shipped(), hostile = *load_recipe("recipes/hostile.toml");
  std::set<fault_kind> kinds;
  int with_leave = 0;
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    bool leave = false;
    for (const auto& f : sim::plan_faults(plan, seed)) {
      kinds.insert(f.kind);
      leave = leave || f.kind == fault_kind::leave;
    }
    with_leave += leave ? 1 : 0;
    for (const auto& f : sim::plan_faults(hostile, seed)) kinds.insert(f.kind);
  }
  BOOST_TEST(kinds.size() == fault_kind_names.size());
  BOOST_TEST(with_leave > 400 * 0.1);  // chance 0.2, of which some draw no time within the phase
  BOOST_TEST(with_leave < 400 * 0.25);
}

BOOST_AUTO_TEST_CASE(written_down_as_a_recipe_the_same_faults_happen) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    const recipe drawn = sim::draw_settings(shipped(), seed);
    const auto faults = sim::plan_faults(drawn, seed);
    const auto text = write_recipe(sim::with_faults(drawn, faults, seed));
    const auto read = read_recipe(text, "written");
    BOOST_TEST_REQUIRE(read.value.has_value(), show_problems(read.problems));
    BOOST_TEST(read.value->run.seed == static_cast<std::int64_t>(seed));
    BOOST_TEST(!read.value->scenario.draw_settings);
    BOOST_TEST(same(sim::plan_faults(*read.value, seed), faults), "seed " << seed);
  }
}

BOOST_AUTO_TEST_CASE(drawn_settings_pass_the_recipes_own_checks) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const auto text = write_recipe(sim::draw_settings(shipped(), seed));
    const auto read = read_recipe(text, "drawn");
    BOOST_TEST(read.value.has_value(), "seed " << seed << ": " << show_problems(read.problems));
  }
}

BOOST_AUTO_TEST_CASE(a_fault_that_waits_for_a_round_keeps_waiting_for_it) {
  const auto faults = sim::plan_faults(*load_recipe("recipes/quickstart.toml"), 1);
  BOOST_REQUIRE(faults.size() == 1U);
  BOOST_TEST(faults[0].waits());
  BOOST_TEST(sim::describe(faults[0]) == "round 10: kill of gamma, for 4 s");
}

BOOST_AUTO_TEST_SUITE_END()
