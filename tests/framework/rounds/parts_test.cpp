#include "framework/rounds/coordinator_log.hpp"
#include "framework/rounds/deadline.hpp"
#include "framework/rounds/ledger.hpp"
#include "framework/rounds/membership.hpp"
#include "framework/rounds/parameter_group.hpp"
#include "framework/rounds/watermarks.hpp"
#include "framework/sim/disk.hpp"

#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <unistd.h>

using namespace isthmus;
using std::chrono::milliseconds;
using std::chrono::seconds;

BOOST_AUTO_TEST_SUITE(parts_test)

BOOST_AUTO_TEST_CASE(the_deadline_is_learnt_within_its_bounds) {
  deadline_settings s;
  s.grace = seconds(5);
  s.min = seconds(2);
  s.max = seconds(60);
  learned_deadline d(s);
  BOOST_TEST((d.value() == seconds(60)));
  for (int i = 0; i < 10; ++i) d.observe(milliseconds(10));
  BOOST_TEST((d.value() == seconds(2)));
  for (int i = 0; i < 32; ++i) d.observe(seconds(i % 2 == 0 ? 10 : 12));
  BOOST_TEST((d.value() >= seconds(12) && d.value() <= seconds(20)));
  const time_point opened{seconds(100)};
  BOOST_TEST((d.closes_at(opened, opened + seconds(1)) == opened + seconds(6)));  // the grace window
  BOOST_TEST((d.closes_at(opened, opened + seconds(19)) == std::max(opened + seconds(19), opened + d.value())));
  BOOST_TEST((d.closes_at(opened, opened + seconds(90)) == opened + seconds(90)));  // never before the quorum
}

BOOST_AUTO_TEST_CASE(leases_join_and_watermarks_add_up) {
  const std::vector<lease> a{{0, 8, 12}, {0, 0, 4}}, b{{0, 4, 8}, {1, 0, 2}, {0, 20, 20}};
  BOOST_TEST((joined(a, b) == std::vector<lease>{{0, 0, 12}, {1, 0, 2}}));
  watermark_table t;
  round_record r;
  r.contributors = {{2, 1, 10, 100, {{0, 0, 4}}, 1.5}};
  t.apply(r);
  r.contributors = {{0, 1, 3, 7, {}, 0}, {2, 2, 20, 50, {{0, 4, 8}}, 0.5}};
  t.apply(r);
  BOOST_TEST((t.of(2) == contributor{2, 2, 20, 150, {{0, 0, 8}}, 2.0}));
  BOOST_TEST(t.of(1).step == 0U);
  BOOST_TEST(t.entries().size() == 2U);
}

BOOST_AUTO_TEST_CASE(a_record_s_hash_covers_every_field_and_its_text_form_is_exact) {
  round_record r;
  r.group = 3;
  r.round = 7;
  r.epoch = 2;
  r.home = 1;
  r.contributors = {{0, 4, 70, 1024, {{0, 5, 9}}, 0.1}};
  r.tokens_total = 999;
  r.weight = 1.0 / 3;
  r.mass = -2.5e-7;
  r.delta_hash = {1, 2};
  r.anchor_hash = {3, 4};
  r.previous = {5, 6};
  const hash128 hash = hash_record(r);
  const auto back = ledger::parse_record(ledger::record_json(r), "test");
  BOOST_TEST_REQUIRE(back.has_value());
  BOOST_TEST((*back == r));
  BOOST_TEST((hash_record(*back) == hash));
  const auto changes = [&](auto change) {
    round_record other = r;
    change(other);
    return hash_record(other) != hash;
  };
  BOOST_TEST(changes([](auto& o) { o.round = 8; }));
  BOOST_TEST(changes([](auto& o) { o.epoch = 3; }));
  BOOST_TEST(changes([](auto& o) { o.contributors[0].leases[0].end = 10; }));
  BOOST_TEST(changes([](auto& o) { o.contributors[0].mass = 0.2; }));
  BOOST_TEST(changes([](auto& o) { o.tokens_total = 1; }));
  BOOST_TEST(changes([](auto& o) { o.weight = 0.5; }));
  BOOST_TEST(changes([](auto& o) { o.anchor_hash.low = 5; }));
  BOOST_TEST(changes([](auto& o) { o.previous.high = 6; }));
  BOOST_TEST(!ledger::parse_record("{\"group\":-1}", "test").has_value());
}

BOOST_AUTO_TEST_CASE(the_coordinator_s_log_is_compare_and_swap_and_survives_a_torn_line) {
  const std::string root = (std::filesystem::temp_directory_path() / ("isthmus-log-" + std::to_string(getpid()))).string();
  const auto disk = *open_disk(root);
  coordinator_entry one;
  one.view.number = 1;
  one.view.members = {{0, 1, false, 0}, {1, 3, true, 0}};
  one.view.cuts = {{0, 1, 5, 4, {1, 2}, {3, 4}, 1}};
  one.view.reason = "the run \"begins\"";
  coordinator_entry two = one;
  two.view.number = 2;
  two.sealed = {0};
  two.ended = {{1, 4, false, 0}};
  {
    auto log = *coordinator_log::open(*disk, "coordinator.jsonl");
    BOOST_TEST(!log.append(two).has_value());
    BOOST_TEST(log.append(one).has_value());
    BOOST_TEST(!log.append(one).has_value());
    auto other = *coordinator_log::open(*disk, "coordinator.jsonl");
    BOOST_TEST((other.entries() == std::vector{one}));
    BOOST_TEST(other.append(two).has_value());
    BOOST_TEST(static_cast<int>(log.append(two).error().code) == static_cast<int>(errc::stale_epoch));  // fenced
  }
  const auto bytes = *disk->read("coordinator.jsonl", 1 << 20);
  BOOST_TEST_REQUIRE(disk->write_synced("coordinator.jsonl", std::span(bytes).first(bytes.size() - 5)).has_value());
  auto log = *coordinator_log::open(*disk, "coordinator.jsonl");
  BOOST_TEST((log.entries() == std::vector{one}));
  BOOST_TEST(log.append(two).has_value());
  BOOST_TEST((coordinator_log::open(*disk, "coordinator.jsonl")->entries() == std::vector{one, two}));
  auto rotten = *disk->read("coordinator.jsonl", 1 << 20);
  rotten[20] = std::byte{'#'};
  BOOST_TEST_REQUIRE(disk->write_synced("coordinator.jsonl", rotten).has_value());
  BOOST_TEST(coordinator_log::open(*disk, "coordinator.jsonl").error().message.find("coordinator.jsonl:1") != std::string::npos);
  std::filesystem::remove_all(root);
}

namespace {

std::vector<held_record> initial(std::uint32_t groups) {
  std::vector<held_record> held;
  for (group_id g = 0; g < groups; ++g) held.push_back({g, 0, 0, {}, {g + 1U, 9}});
  return held;
}

membership make_membership(std::uint32_t sites, std::uint32_t groups, time_point now) {
  membership_settings s;
  for (site_id i = 0; i < sites; ++i) s.roster.push_back({i, true});
  s.groups = groups;
  return membership(s, {}, now);
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_first_epoch_waits_for_the_roster_then_for_a_majority) {
  time_point now{};
  auto m = make_membership(3, 4, now);
  m.join(0, {1, initial(4)}, now);
  BOOST_TEST(m.view().number == 0U);
  m.join(2, {1, initial(4)}, now);
  BOOST_TEST(m.view().number == 0U);
  now += seconds(11);
  m.heard(0, now);
  m.heard(2, now);
  m.tick(now);
  BOOST_TEST(m.view().number == 1U);
  BOOST_TEST(m.view().members.size() == 2U);
  std::map<site_id, int> homes;
  for (const group_cut& c : m.view().cuts) ++homes[c.home];
  BOOST_TEST(homes[0] == 2);
  BOOST_TEST(homes[2] == 2);
}

BOOST_AUTO_TEST_CASE(a_seal_counts_only_from_who_holds_the_cuts_and_too_few_end_nothing) {
  time_point now{};
  auto m = make_membership(3, 1, now);
  for (site_id s = 0; s < 3; ++s) m.join(s, {1, initial(1)}, now);
  BOOST_TEST(m.view().number == 1U);
  m.lost(0, 1, "killed", now);
  BOOST_TEST(m.changing());
  std::vector<held_record> nothing{{0, 0, 0, {}, {}}};
  m.sealed(1, {1, nothing}, now);
  m.sealed(2, {1, {{0, 4, 1, {7, 7}, {8, 8}}}}, now);
  now += milliseconds(900);
  m.heard(1, now);
  m.heard(2, now);
  m.tick(now);
  BOOST_TEST(m.view().number == 1U);  // one of three is not ceil(3/2)
  m.sealed(1, {1, {{0, 3, 1, {6, 6}, {5, 5}}}}, now);
  BOOST_TEST(m.view().number == 2U);
  BOOST_TEST(m.view().cuts[0].round == 4U);
  BOOST_TEST(m.view().cuts[0].holder == 2U);
  BOOST_TEST(m.view().members.size() == 2U);
}

BOOST_AUTO_TEST_CASE(a_higher_incarnation_ends_the_one_before_and_an_old_one_is_not_heard) {
  time_point now{};
  auto m = make_membership(2, 1, now);
  m.join(0, {1, initial(1)}, now);
  m.join(1, {5, initial(1)}, now);
  BOOST_TEST(m.view().number == 1U);
  m.join(1, {4, initial(1)}, now);
  BOOST_TEST(!m.changing());
  m.join(1, {6, {}}, now);
  BOOST_TEST(m.changing());
  m.sealed(0, {1, {{0, 9, 1, {7, 7}, {8, 8}}}}, now);
  BOOST_TEST(m.view().number == 2U);
  BOOST_TEST(m.view().members.size() == 2U);
  BOOST_TEST(m.view().members[1].joining);
  BOOST_TEST(m.view().members[1].incarnation == 6U);
  BOOST_TEST(m.view().cuts[0].home == 0U);
}

namespace {

/// What its log tells a coordinator that was restarted: epoch 1, site 0 joining.
std::vector<coordinator_entry> log_with_a_joiner(std::uint32_t sites) {
  coordinator_entry e;
  e.view.number = 1;
  for (site_id s = 0; s < sites; ++s) e.view.members.push_back({s, 1, s == 0, 1});
  e.view.cuts = {{0, 1, 0, 0, {}, {1, 9}, 1}};
  return {e};
}

membership restarted(std::uint32_t members, std::uint32_t sites, time_point now) {
  membership_settings s;
  for (site_id i = 0; i < sites; ++i) s.roster.push_back({i, true});
  return membership(s, log_with_a_joiner(members), now);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_restarted_coordinator_ends_the_epoch_that_it_had_begun_to_end) {
  const time_point now{};
  auto m = restarted(3, 3, now);
  for (site_id s = 0; s < 3; ++s) m.join(s, {1, initial(1)}, now);
  BOOST_TEST(!m.changing());
  m.sealed(1, {1, initial(1)}, now);  // site 1 stores nothing more in epoch 1
  BOOST_TEST(m.changing());
  for (const site_id s : {0U, 2U}) m.sealed(s, {1, initial(1)}, now);
  BOOST_TEST(m.view().number == 2U);
  BOOST_TEST(m.view().members.size() == 3U);
}

BOOST_AUTO_TEST_CASE(a_restarted_coordinator_hears_again_who_has_caught_up_and_lets_others_in) {
  const time_point now{};
  auto m = restarted(2, 3, now);
  for (site_id s = 0; s < 3; ++s) m.join(s, {1, initial(1)}, now);
  BOOST_TEST(!m.changing());  // one joiner beside one that holds the cuts is the most
  m.synced(0, {1}, now);
  BOOST_TEST(m.changing());
}

BOOST_AUTO_TEST_CASE(who_reports_again_has_not_finished) {
  const time_point now{};
  auto m = make_membership(2, 1, now);
  for (site_id s = 0; s < 2; ++s) m.join(s, {1, initial(1)}, now);
  m.leave(0, {"finished", true}, now);
  m.report(0, {}, now);  // its end became void
  m.leave(1, {"finished", true}, now);
  BOOST_TEST(!m.is_finished());
  m.leave(0, {"finished", true}, now);
  BOOST_TEST(m.is_finished());
}

BOOST_AUTO_TEST_CASE(leases_without_others_are_what_is_left) {
  const std::vector<lease> a{{0, 0, 10}, {1, 0, 4}}, b{{0, 2, 4}, {0, 8, 12}, {2, 0, 4}};
  BOOST_TEST((without(a, b) == std::vector<lease>{{0, 0, 2}, {0, 4, 8}, {1, 0, 4}}));
  BOOST_TEST(without(a, a).empty());
}

/// Of three: and all the time the others say that they miss it.
void five_seconds_without_site_2(membership& m, time_point& now) {
  for (int i = 0; i < 10; ++i) {
    now += milliseconds(500);
    for (site_id s = 0; s < 2; ++s) {
      m.heard(s, now);
      m.suspect(s, {2, 1, "silence"}, now);
      if (m.changing()) m.sealed(s, {m.view().number, initial(1)}, now);
    }
    m.tick(now);
  }
}

BOOST_AUTO_TEST_CASE(a_returned_site_does_not_pay_for_the_suspicions_of_its_former_incarnation) {
  time_point now{};
  auto m = make_membership(3, 1, now);
  for (site_id s = 0; s < 3; ++s) m.join(s, {1, initial(1)}, now);
  m.lost(2, 1, "killed", now);
  five_seconds_without_site_2(m, now);
  BOOST_TEST(m.view().members.size() == 2U);
  m.join(2, {2, initial(1)}, now);
  for (site_id s = 0; s < 2; ++s) m.sealed(s, {m.view().number, initial(1)}, now);
  BOOST_TEST(m.view().members.size() == 3U);
  m.tick(now + milliseconds(100));
  BOOST_TEST(!m.changing());
  BOOST_TEST(m.view().members.size() == 3U);
}

BOOST_AUTO_TEST_CASE(a_site_that_was_cut_off_does_not_pay_for_what_was_said_meanwhile) {
  time_point now{};
  auto m = make_membership(3, 1, now);
  for (site_id s = 0; s < 3; ++s) m.join(s, {1, initial(1)}, now);
  m.lost(2, 1, "cut off", now);
  five_seconds_without_site_2(m, now);
  m.join(2, {1, initial(1)}, now);                                       // the same process
  for (site_id s = 0; s < 2; ++s) m.suspect(s, {2, 1, "silence"}, now);  // their links are not up yet
  for (site_id s = 0; s < 2; ++s) m.sealed(s, {m.view().number, initial(1)}, now);
  m.tick(now + milliseconds(100));
  BOOST_TEST(m.view().members.size() == 3U);
  BOOST_TEST(!m.changing());
}

BOOST_AUTO_TEST_CASE(a_pair_that_misses_each_other_is_parted_and_comes_together_later) {
  time_point now{};
  auto m = make_membership(2, 1, now);
  for (site_id s = 0; s < 2; ++s) m.join(s, {1, initial(1)}, now);
  const auto beat = [&](bool apart) {
    now += milliseconds(250);
    for (site_id s = 0; s < 2; ++s) m.heard(s, now);
    if (apart) {
      m.suspect(0, {1, 1, "silence"}, now);
      m.suspect(1, {0, 1, "silence"}, now);
    }
    m.tick(now);
    if (m.changing()) m.sealed(0, {m.view().number, initial(1)}, now);
    now += milliseconds(600);
    for (site_id s = 0; s < 2; ++s) m.heard(s, now);
    m.tick(now);
  };
  for (int i = 0; i < 8; ++i) beat(true);
  BOOST_TEST(m.view().members.size() == 1U);
  BOOST_TEST(m.view().members[0].site == 0U);
  for (int i = 0; i < 20; ++i) beat(false);
  BOOST_TEST(m.view().members.size() == 2U);
}

BOOST_AUTO_TEST_SUITE_END()
