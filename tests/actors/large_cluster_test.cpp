// As many sites as a simulation is made for.
#include "actors/sim/rehearsal.hpp"

#include <boost/test/unit_test.hpp>

#include <string>

using namespace isthmus;
using namespace isthmus::actors;

BOOST_AUTO_TEST_SUITE(large_cluster_test)

// Everybody beats to everybody, so beats are rarer than in a small cluster, or there would be nothing else.
BOOST_AUTO_TEST_CASE(two_hundred_sites_go_on_when_some_die) {
  auto plan = *load_recipe("recipes/faults.toml");
  plan.run.tokens = 200 * 64 * plan.round.inner_steps * 3;
  plan.links.heartbeat_ms = 2000;
  plan.links.dead_after_ms = 8000;
  plan.scenario.draw_settings = false;
  plan.scenario.fault_seconds = 6;
  plan.scenario.stays_down = 0;
  plan.sites.resize(1);
  for (int i = 0; i < 199; ++i) {
    auto site = plan.sites.front();
    site.name = "s" + std::to_string(i);
    site.home = i < 7;
    plan.sites.push_back(site);
  }
  plan.faults.clear();
  for (const auto* kind : {"kill", "cut"}) {
    recipe::fault f;
    f.kind = kind;
    f.site = "any";
    f.every_seconds = 2;
    plan.faults.push_back(f);
  }
  const auto r = rehearse(plan, 1);
  std::string text = "seed 1: " + r.failure;
  for (const auto& finding : r.findings) text += "\n" + finding;
  BOOST_TEST(r.good(), text);
  BOOST_TEST(!r.faults.empty());
}

BOOST_AUTO_TEST_SUITE_END()
