#include "tests/framework/rounds/expect.hpp"

#include <boost/test/unit_test.hpp>

#include <cstdlib>
#include <string>

using namespace isthmus;
using testing::cluster;
using testing::cluster_settings;
using testing::expect_one_history;

namespace {

using std::chrono::milliseconds;

/// Faults from one seed for some seconds, then everything is healed and everybody is back.
struct chaos {
  cluster& c;
  rng draws;
  std::uint32_t sites;
  time_point until;

  void next() {
    if (c.world().now() >= until) return heal();
    const auto site = static_cast<site_id>(draws.below(sites));
    switch (draws.below(7)) {
      case 0:
      case 1:
        if (c.alive(site))
          c.kill(site);
        else
          c.restart(site, draws.below(3) > 0);
        break;
      case 2:
      case 3:
        if (!c.alive(site)) c.restart(site, draws.below(3) > 0);
        break;
      case 4: {
        const auto other = draws.below(4) == 0 ? coordinator_id : static_cast<site_id>(draws.below(sites));
        if (other != site) {
          c.cut(site, other);
          c.world().after(milliseconds(50 + draws.below(2500)), [this, site, other] { c.heal(site, other); });
        }
        break;
      }
      case 5:
        if (draws.below(3) > 0) break;
        if (c.coordinator_alive())
          c.kill_coordinator();
        else
          c.restart_coordinator();
        break;
      default: c.save_checkpoint(site);
    }
    c.world().after(milliseconds(20 + draws.below(400)), [this] { next(); });
  }
  void heal() {
    if (!c.coordinator_alive()) c.restart_coordinator();
    for (site_id a = 0; a < sites; ++a) {
      c.heal(a, coordinator_id);
      for (site_id b = a + 1; b < sites; ++b) c.heal(a, b);
      if (!c.alive(a)) c.restart(a, true);
    }
  }
};

/// The run of a seed, which also decides its shape; what it must end with is expected of it.
struct chaotic_run {
  cluster_settings settings;
  cluster c;

  explicit chaotic_run(std::uint64_t seed) : settings(shape_of(seed)), c(settings) {
    chaos faults{c, rng(seed, 0, 0, draw::fault), settings.sites, c.world().now() + milliseconds(4000)};
    c.world().after(milliseconds(100), [&] { faults.next(); });
    c.run();
    if (!c.finished()) faults.heal();
    c.run();
    expect_one_history(c, settings, "seed " + std::to_string(seed));
  }

  static cluster_settings shape_of(std::uint64_t seed) {
    cluster_settings settings;
    settings.seed = seed;
    settings.sites = 2 + static_cast<std::uint32_t>(seed % 4);
    settings.groups = 1 + static_cast<std::uint32_t>(seed % 3);
    settings.rounds = 8;
    settings.group_size = 8;
    settings.delay_max = milliseconds(seed % 5 == 0 ? 150 : 10);
    settings.duplicates = seed % 2 == 0 ? 0.1 : 0;
    settings.down_residual = seed % 3 != 0;
    settings.warm_up_rounds = seed % 3 == 0 ? seed / 3 % 4 : 0;
    return settings;
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(chaos_test)

BOOST_AUTO_TEST_CASE(kills_cuts_delays_and_duplicates_over_many_seeds_leave_one_history) {
  const char* wanted = std::getenv("ISTHMUS_CHAOS_SEEDS");  // how many, from ISTHMUS_CHAOS_FIRST on: for a long run by hand
  const char* start = std::getenv("ISTHMUS_CHAOS_FIRST");
  const std::uint64_t first = start != nullptr ? std::stoull(start) : 1;
  const std::uint64_t seeds = first - 1 + (wanted != nullptr ? std::stoull(wanted) : 200);
  std::uint64_t copies = 0, voids = 0, epochs = 0, partial = 0, returned = 0, rollbacks = 0;
  for (std::uint64_t seed = first; seed <= seeds; ++seed) {
    chaotic_run run(seed);
    const cluster& c = run.c;
    const auto report = *check_ledgers(*run.c.ledgers());
    copies += c.total(&group_counters::state_copies);
    rollbacks += c.total(&group_counters::rollbacks);
    voids += report.records_void;
    epochs += report.epochs;
    partial += report.partial;
    returned += report.returned;
  }
  // what never happens in all these runs is not tested by them
  BOOST_TEST(copies > 0U);
  BOOST_TEST(voids > 0U);
  BOOST_TEST(rollbacks > 0U);
  BOOST_TEST(partial > 0U);
  BOOST_TEST(returned > 0U);
  BOOST_TEST(epochs > 2 * (seeds + 1 - first));
  BOOST_TEST_MESSAGE(seeds << " seeds: " << epochs << " epochs, " << voids << " void records, " << copies << " copied states, " << rollbacks
                           << " rolled back, " << partial << " partial and " << returned << " returned samples");
}

// Each of these broke a promise once: a member that had sealed applied a committed record, and the restart that followed began below it
// (2078); a home died between its record and its commit, and nobody can say what it had kept (5895, 6978).
BOOST_AUTO_TEST_CASE(seeds_that_have_failed_before) {
  for (const std::uint64_t seed : {2078, 5895, 6978}) chaotic_run run(seed);
}

BOOST_AUTO_TEST_CASE(the_same_seed_gives_the_same_history) {
  const auto digest = [](std::uint64_t seed) {
    cluster_settings settings;
    settings.seed = seed;
    settings.rounds = 6;
    cluster c(settings);
    chaos faults{c, rng(seed, 0, 0, draw::fault), settings.sites, c.world().now() + milliseconds(2000)};
    c.world().after(milliseconds(100), [&] { faults.next(); });
    c.before_delivery = [&](std::uint64_t number, site_id from, site_id to, const envelope& what) {
      c.world().note(std::to_string(number) + " " + std::to_string(from) + " " + std::to_string(to) + " " +
                     std::to_string(what.body.index()));
    };
    c.run();
    return c.world().digest();
  };
  for (std::uint64_t seed = 1; seed <= 10; ++seed) BOOST_TEST((digest(seed) == digest(seed)), "seed " << seed);
}

BOOST_AUTO_TEST_SUITE_END()
