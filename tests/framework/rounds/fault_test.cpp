#include "tests/framework/rounds/expect.hpp"

#include <boost/test/unit_test.hpp>

#include <string>

using namespace isthmus;
using testing::cluster;
using testing::cluster_settings;
using testing::expect_one_history;

namespace {

using std::chrono::milliseconds;

cluster_settings small() {
  cluster_settings s;
  s.rounds = 3;
  s.group_size = 8;
  return s;
}

std::uint64_t deliveries_of(const cluster_settings& settings) {
  cluster c(settings);
  BOOST_TEST_REQUIRE(c.run());
  return c.delivered();
}

enum class afterwards { stays_away, returns, returns_without_disk };

/// Kills `victim` just before delivery `boundary`, so also just after delivery boundary - 1.
void kill_at(const cluster_settings& settings, std::uint64_t boundary, site_id victim, afterwards then) {
  cluster c(settings);
  c.before_delivery = [&](std::uint64_t number, site_id, site_id, const envelope&) {
    if (number != boundary) return;
    c.kill(victim);
    if (then != afterwards::stays_away)
      c.world().after(milliseconds(300), [&c, victim, then] { c.restart(victim, then == afterwards::returns); });
  };
  c.run();
  expect_one_history(c, settings,
                     "site " + std::to_string(victim) + " killed before delivery " + std::to_string(boundary) + ", then " +
                         std::to_string(static_cast<int>(then)));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(fault_test)

BOOST_AUTO_TEST_CASE(any_site_killed_at_every_message_boundary_leaves_one_history) {
  const cluster_settings settings = small();
  const std::uint64_t last = deliveries_of(settings);
  for (std::uint64_t boundary = 7; boundary <= last; ++boundary)  // the epoch has begun
    for (site_id victim = 0; victim < settings.sites; ++victim)
      kill_at(settings, boundary, victim, static_cast<afterwards>((boundary + victim) % 3));
}

BOOST_AUTO_TEST_CASE(a_home_killed_between_record_and_commit_leaves_one_history) {
  // the window from the first delta's delivery to the commit's application, at every message, for each group and each kind of return
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    cluster_settings settings = small();
    settings.seed = seed;
    std::vector<std::pair<std::uint64_t, site_id>> boundaries;
    {
      cluster c(settings);
      c.before_delivery = [&](std::uint64_t number, site_id from, site_id to, const envelope& what) {
        if (std::holds_alternative<message::delta>(what.body) || std::holds_alternative<message::commit>(what.body))
          boundaries.emplace_back(number, from);
        if (std::holds_alternative<message::stored>(what.body)) boundaries.emplace_back(number, to);
      };
      BOOST_TEST_REQUIRE(c.run());
    }
    BOOST_TEST_REQUIRE(!boundaries.empty());
    for (const auto& [number, home] : boundaries)
      for (const afterwards then : {afterwards::stays_away, afterwards::returns, afterwards::returns_without_disk}) {
        if (seed > 1 && static_cast<int>(then) != static_cast<int>(number % 3)) continue;
        kill_at(settings, number, home, then);
      }
  }
}

BOOST_AUTO_TEST_CASE(the_coordinator_killed_and_restarted_at_every_tenth_message_changes_nothing) {
  const cluster_settings settings = small();
  const std::uint64_t last = deliveries_of(settings);
  for (std::uint64_t boundary = 7; boundary <= last; boundary += 10) {
    cluster c(settings);
    c.before_delivery = [&](std::uint64_t number, site_id, site_id, const envelope&) {
      if (number != boundary) return;
      c.kill_coordinator();
      c.world().after(milliseconds(500), [&c] { c.restart_coordinator(); });
    };
    c.run();
    expect_one_history(c, settings, "coordinator killed before delivery " + std::to_string(boundary));
  }
}

BOOST_AUTO_TEST_CASE(a_home_and_the_coordinator_killed_together_leave_one_history) {
  cluster_settings settings = small();
  settings.rounds = 5;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    settings.seed = seed;
    cluster c(settings);
    const site_id victim = static_cast<site_id>(seed % 3);
    c.world().after(milliseconds(150 + 17 * seed), [&] {
      c.kill(victim);
      c.kill_coordinator();
    });
    c.world().after(milliseconds(900), [&] { c.restart_coordinator(); });
    c.world().after(milliseconds(1500), [&] { c.restart(victim, seed % 2 == 0); });
    c.run();
    expect_one_history(c, settings, "seed " + std::to_string(seed));
  }
}

BOOST_AUTO_TEST_CASE(a_run_killed_as_a_whole_goes_on_from_its_checkpoints) {
  cluster_settings settings;
  settings.rounds = 6;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    settings.seed = seed;
    cluster c(settings);
    c.world().after(milliseconds(400 + 31 * seed), [&] {
      for (site_id s = 0; s < settings.sites; ++s) c.kill(s);
      if (seed % 2 == 0) c.kill_coordinator();
    });
    c.world().after(milliseconds(2000), [&] {
      if (!c.coordinator_alive()) c.restart_coordinator();
      for (site_id s = 0; s < settings.sites; ++s) c.restart(s, true);
    });
    c.run();
    expect_one_history(c, settings, "seed " + std::to_string(seed));
  }
}

BOOST_AUTO_TEST_CASE(a_survivor_above_the_cut_of_a_restart_gives_its_void_leases_back) {
  cluster_settings settings;
  settings.rounds = 40;
  std::uint64_t rollbacks = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    settings.seed = seed;
    cluster c(settings);
    // Site 0 is cut off and left out; the others lose their processes, and with them what their checkpoints do not have.
    const auto part = [&](bool apart) {
      for (const site_id other : {site_id{1}, site_id{2}, coordinator_id}) apart ? c.cut(0, other) : c.heal(0, other);
    };
    c.world().after(milliseconds(1000), [&] { part(true); });
    c.world().after(milliseconds(2000), [&] {
      c.kill(1);
      c.kill(2);
    });
    c.world().after(milliseconds(2400), [&] {
      c.restart(1, false);
      c.restart(2, seed % 2 == 0);
    });
    c.world().after(milliseconds(3500), [&] { part(false); });
    c.run();
    expect_one_history(c, settings, "seed " + std::to_string(seed));
    rollbacks += c.total(&group_counters::rollbacks);
  }
  BOOST_TEST(rollbacks > 0U);
}

BOOST_AUTO_TEST_SUITE_END()
