#include "tests/framework/rounds/expect.hpp"

#include <boost/test/unit_test.hpp>

#include <vector>

using namespace isthmus;
using testing::cluster;
using testing::cluster_settings;
using testing::expect_one_history;

namespace {

/// A message of sites 0 and 1 as it arrived.
struct delivery {
  site_id from, to;
  envelope what;
};

group_id group_of(const envelope& what) {
  if (const auto* d = std::get_if<message::delta>(&what.body)) return d->record.group;
  if (const auto* s = std::get_if<message::stored>(&what.body)) return s->group;
  return std::get<message::commit>(what.body).group;
}

bool is_kept(const envelope& what) {
  return std::holds_alternative<message::delta>(what.body) || std::holds_alternative<message::stored>(what.body) ||
         std::holds_alternative<message::commit>(what.body);
}

bool moves_an_anchor(const group_actions& actions) {
  for (const group_action& action : actions)
    if (std::holds_alternative<group_effect::applied>(action) || std::holds_alternative<group_effect::rolled_back>(action)) return true;
  return false;
}

/// Three sites of which the last dies for good after a while, so that a second epoch begins; what the others said before is kept.
std::vector<delivery> run_into_a_second_epoch(cluster& c) {
  std::vector<delivery> old;
  c.before_delivery = [&](std::uint64_t, site_id from, site_id to, const envelope& what) {
    if (from > 1 || to > 1 || !c.alive(2) || !is_kept(what)) return;
    old.push_back({from, to, what});
    if (old.size() == 12) c.world().after(std::chrono::milliseconds(1), [&c] { c.kill(2); });
  };
  BOOST_TEST_REQUIRE(c.run());
  BOOST_TEST_REQUIRE(!c.alive(2));
  c.before_delivery = nullptr;
  return old;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(stale_test)

// A slow path may hold a frame back until its epoch has ended, though the link is up and the sender's incarnation is right.
BOOST_AUTO_TEST_CASE(messages_of_an_ended_epoch_are_dropped_and_counted) {
  cluster_settings settings;
  settings.rounds = 6;
  cluster c(settings);
  std::uint64_t deltas = 0, others = 0;
  for (delivery& d : run_into_a_second_epoch(c)) {
    parameter_group& group = c.group(d.to, group_of(d.what));
    if (auto* m = std::get_if<message::delta>(&d.what.body)) {
      m->record.round = group.round() + 1;  // as if it were the next one: by its round alone it would be welcome
      ++deltas;
    } else {
      ++others;
    }
    const std::uint64_t stale = group.counters().stale_epoch;
    const hash128 anchor = hash_floats(group.anchor());
    const auto actions = group.receive(d.from, 1, d.what, c.world().now());
    BOOST_TEST(!moves_an_anchor(actions));
    BOOST_TEST((hash_floats(group.anchor()) == anchor));
    BOOST_TEST(group.counters().stale_epoch == stale + 1);
  }
  BOOST_TEST(deltas > 0U);
  BOOST_TEST(others > 0U);
  expect_one_history(c, settings, "after stale messages");
}

// The same message from a peer's former life is not even looked at.
BOOST_AUTO_TEST_CASE(messages_of_a_former_incarnation_are_dropped_and_counted) {
  cluster_settings settings;
  settings.rounds = 6;
  cluster c(settings);
  for (const delivery& d : run_into_a_second_epoch(c)) {
    parameter_group& group = c.group(d.to, group_of(d.what));
    const std::uint64_t stale = group.counters().stale_incarnation;
    BOOST_TEST(group.receive(d.from, 0, d.what, c.world().now()).empty());
    BOOST_TEST(group.counters().stale_incarnation == stale + 1);
  }
}

BOOST_AUTO_TEST_SUITE_END()
