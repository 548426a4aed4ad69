#include "framework/rounds/membership.hpp"

#include <boost/test/unit_test.hpp>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

using namespace isthmus;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

/// Whose decisions stand in the log at once, as long as it takes any.
class logged_membership : public membership {
public:
  using membership::membership;
  void join(site_id site, const message::join& m, time_point now) { settle(membership::join(site, m, now), now); }
  void lost(site_id site, incarnation_number i, const std::string& why, time_point now) {
    settle(membership::lost(site, i, why, now), now);
  }
  void suspect(site_id from, const message::suspect& m, time_point now) { settle(membership::suspect(from, m, now), now); }
  void sealed(site_id from, const message::sealed& m, time_point now) { settle(membership::sealed(from, m, now), now); }
  void frozen(site_id from, const message::frozen& m, time_point now) { settle(membership::frozen(from, m, now), now); }
  void synced(site_id from, const message::synced& m, time_point now) { settle(membership::synced(from, m, now), now); }
  void leave(site_id from, const message::leave& m, time_point now) { settle(membership::leave(from, m, now), now); }
  void stop(time_point now) { settle(membership::stop("asked to", now), now); }
  void tick(time_point now) { settle(membership::tick(now), now); }

  bool log_refuses = false;
  std::size_t appends = 0, sends = 0;  // asked for; said to sites
  std::vector<site_id> closed;         // whose links were to be broken
  std::vector<site_id> asked;          // to freeze

private:
  void settle(const membership_actions& actions, time_point now) {
    for (const auto& action : actions) {
      if (const auto* s = std::get_if<membership_effect::send>(&action)) {
        ++sends;
        if (std::holds_alternative<message::freeze>(s->what)) asked.push_back(s->to);
      }
      if (const auto* c = std::get_if<membership_effect::close>(&action)) closed.push_back(c->site);
      if (!std::holds_alternative<membership_effect::append>(action)) continue;
      ++appends;
      BOOST_TEST(&action == &actions.back());  // what comes behind it would be said before it is in the log
      if (!log_refuses) settle(appended(now), now);
    }
  }
};

std::vector<held_record> initial(std::uint32_t groups) {
  std::vector<held_record> held;
  for (group_id g = 0; g < groups; ++g) held.push_back({g, 0, 0, {}, {g + 1U, 9}});
  return held;
}

logged_membership make_membership(std::uint32_t sites, std::uint32_t groups, time_point now) {
  membership_settings s;
  for (site_id i = 0; i < sites; ++i) s.roster.push_back({i, true});
  s.groups = groups;
  return logged_membership(s, {}, now);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(membership_test)

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

// Found by seeds: the run went on from what such a site had said when it joined, long before; it could not go back to that, and hung.
BOOST_AUTO_TEST_CASE(a_restart_asks_who_is_outside_of_the_epoch_what_it_holds_now) {
  time_point now{};
  auto m = make_membership(2, 1, now);
  for (site_id site : {0U, 1U}) m.join(site, {1, initial(1)}, now);
  const std::vector<held_record> later{{0, 2, 1, {5, 5}, {6, 6}}};
  m.lost(1, 1, "the link broke", now);
  m.sealed(0, {1, later}, now);
  BOOST_TEST_REQUIRE(m.view().number == 2U);  // of site 0 alone, behind round 2
  m.lost(0, 1, "killed", now);
  m.join(1, {1, initial(1)}, now);
  m.join(0, {2, initial(1)}, now);  // nobody is left of epoch 2
  now += seconds(1);
  for (site_id site : {0U, 1U}) m.heard(site, now);
  m.tick(now);
  BOOST_TEST(m.view().number == 2U);
  BOOST_TEST((std::set<site_id>(m.asked.begin(), m.asked.end()) == std::set<site_id>{0, 1}));
  m.frozen(0, {2, initial(1)}, now);
  BOOST_TEST(m.view().number == 2U);
  m.frozen(1, {1, later}, now);  // of an epoch that is over
  BOOST_TEST(m.view().number == 2U);
  m.frozen(1, {2, later}, now);
  BOOST_TEST_REQUIRE(m.view().number == 3U);
  BOOST_TEST(m.view().cuts[0].round == 2U);
  BOOST_TEST(m.view().cuts[0].holder == 1U);
}

BOOST_AUTO_TEST_CASE(silence_breaks_the_link_so_that_who_lives_calls_again) {
  time_point now{};
  auto m = make_membership(3, 1, now);
  for (site_id s = 0; s < 3; ++s) m.join(s, {1, initial(1)}, now);
  now += milliseconds(1900);
  m.heard(0, now);
  m.heard(2, now);
  m.tick(now);
  BOOST_TEST(m.closed.empty());
  now += milliseconds(200);
  m.tick(now);
  m.tick(now + milliseconds(100));
  BOOST_TEST((m.closed == std::vector<site_id>{1}));  // once
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

logged_membership restarted(std::uint32_t members, std::uint32_t sites, time_point now) {
  membership_settings s;
  for (site_id i = 0; i < sites; ++i) s.roster.push_back({i, true});
  return logged_membership(s, log_with_a_joiner(members), now);
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

/// Of three: and all the time the others say that they miss it.
void five_seconds_without_site_2(logged_membership& m, time_point& now) {
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

BOOST_AUTO_TEST_CASE(what_the_log_refuses_was_never_decided_and_nothing_is_said_after_it) {
  time_point now{};
  auto m = make_membership(3, 1, now);
  for (site_id s = 0; s < 3; ++s) m.join(s, {1, initial(1)}, now);
  BOOST_TEST(m.view().number == 1U);
  BOOST_TEST(m.sends == 3U);
  m.log_refuses = true;
  m.lost(2, 1, "killed", now);
  m.sealed(0, {1, initial(1)}, now);
  m.sealed(1, {1, initial(1)}, now);
  BOOST_TEST(m.appends == 2U);
  BOOST_TEST(m.view().number == 1U);
  const std::size_t said = m.sends;
  for (int i = 0; i < 20; ++i) {  // nothing makes it speak, or decide, again
    now += seconds(1);
    m.join(2, {2, initial(1)}, now);
    m.join(0, {1, initial(1)}, now);
    m.suspect(0, {1, 1, "silence"}, now);
    m.sealed(0, {1, initial(1)}, now);
    m.synced(1, {1}, now);
    for (site_id s = 0; s < 3; ++s) m.leave(s, {"finished", true}, now);
    m.stop(now);
    m.tick(now);
  }
  BOOST_TEST(m.sends == said);
  BOOST_TEST(m.appends == 2U);
  BOOST_TEST(m.view().number == 1U);
}

BOOST_AUTO_TEST_CASE(an_end_that_the_log_refuses_is_no_end) {
  const time_point now{};
  auto m = make_membership(2, 1, now);
  for (site_id s = 0; s < 2; ++s) m.join(s, {1, initial(1)}, now);
  m.log_refuses = true;
  const std::size_t said = m.sends;
  for (site_id s = 0; s < 2; ++s) m.leave(s, {"finished", true}, now);
  BOOST_TEST(m.appends == 2U);
  BOOST_TEST(m.sends == said);  // nobody was told that the run is over
  BOOST_TEST(!m.is_finished());
}

BOOST_AUTO_TEST_SUITE_END()
