// A state copied in pieces from several holders: one dies, one is silent, one lies.
#include "framework/rounds/parameter_group.hpp"
#include "framework/rounds/state_copy.hpp"
#include "tests/framework/rounds/expect.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <set>

using namespace isthmus;
using std::chrono::seconds;
using testing::cluster;
using testing::cluster_settings;
using testing::expect_one_history;

namespace {

constexpr std::size_t floats = 50, piece = 4;  // 13 pieces, the last of two floats

round_record record_of(round_number round) {
  round_record r;
  r.round = round;
  r.tokens_total = round;
  return r;
}

state_name name_of(round_number round) { return {round, hash_record(record_of(round))}; }

/// What a holder of that state answers; its floats are 0, 1, 2, ...
std::pair<message::state_part, shared_bytes> answer(const state_copy::question& q, round_number round = 7) {
  std::vector<float> values;
  for (std::size_t i = q.begin; i < std::min(q.begin + piece, floats); ++i) values.push_back(static_cast<float>(i));
  return {{3, 0, round, q.begin, record_of(round), {}}, make_shared_bytes(std::as_bytes(std::span(values)))};
}

state_copy::taken give(state_copy& copy, const state_copy::question& q, round_number round = 7) {
  const auto [part, payload] = answer(q, round);
  return copy.take(q.to, part, payload);
}

std::map<site_id, std::set<std::uint64_t>> by_holder(const state_copy::questions& questions) {
  std::map<site_id, std::set<std::uint64_t>> out;
  for (const auto& q : questions) BOOST_TEST(out[q.to].insert(q.begin).second);
  return out;
}

/// Answers everything, holder by holder in turn, until nothing is asked any more; true when the state is whole.
bool answer_all(
    state_copy& copy, state_copy::questions open, const std::function<bool(site_id)>& answers = [](site_id) { return true; }) {
  std::deque<state_copy::question> queue(open.begin(), open.end());
  while (!queue.empty()) {
    const auto q = queue.front();
    queue.pop_front();
    if (!answers(q.to)) continue;
    if (give(copy, q) == state_copy::taken::whole) return true;
    for (const auto& more : copy.ask()) queue.push_back(more);
  }
  return false;
}

bool is_right(const state_copy& copy) {
  for (std::size_t i = 0; i < floats; ++i)
    if (copy.values().span()[i] != static_cast<float>(i)) return false;
  return copy.facts().record == record_of(7);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(copy_test)

BOOST_AUTO_TEST_CASE(pieces_are_asked_of_all_holders_at_once_and_none_twice) {
  state_copy copy(floats, piece, 0);
  const auto first = copy.fetch(name_of(7), {4, 0, 2});
  const auto asked = by_holder(first);
  BOOST_TEST(asked.size() == 3U);
  std::set<std::uint64_t> all;
  for (const auto& [site, pieces] : asked) {
    BOOST_TEST(pieces.size() == 2U);
    for (const auto begin : pieces) BOOST_TEST(all.insert(begin).second);
  }
  BOOST_TEST(copy.ask().empty());
  BOOST_TEST(answer_all(copy, first));
  BOOST_TEST(is_right(copy));
}

BOOST_AUTO_TEST_CASE(what_has_arrived_stays_when_a_holder_is_lost) {
  state_copy copy(floats, piece, 0);
  const auto first = copy.fetch(name_of(7), {0, 1, 2});
  std::set<std::uint64_t> here;
  for (const auto& q : first)
    if (q.begin < 5 * piece) {
      BOOST_TEST((give(copy, q) == state_copy::taken::kept));
      here.insert(q.begin);
    }
  BOOST_TEST(copy.pieces_here() == 5U);
  const auto second = copy.fetch(name_of(7), {0, 2});  // the next epoch is without site 1
  BOOST_TEST(copy.pieces_here() == 5U);
  for (const auto& q : second) {
    BOOST_TEST(q.to != 1U);
    BOOST_TEST(!here.contains(q.begin));
  }
  const auto [late, payload] = answer({1, name_of(7), 6 * piece, false});
  BOOST_TEST((copy.take(1, late, payload) == state_copy::taken::useless));
  BOOST_TEST(answer_all(copy, second));
  BOOST_TEST(is_right(copy));
}

BOOST_AUTO_TEST_CASE(a_silent_holder_is_relieved_of_its_pieces) {
  state_copy copy(floats, piece, 0);
  const auto talks = [](site_id site) { return site != 1; };
  BOOST_TEST(!answer_all(copy, copy.fetch(name_of(7), {0, 1}), talks));
  const auto here = copy.pieces_here();
  BOOST_TEST(here == 11U);  // all but the two that the silent one was asked for
  BOOST_TEST(answer_all(copy, copy.again(), talks));
  BOOST_TEST(is_right(copy));
}

// Who lags is offered the first piece again with each of its questions about records: that is no answer to what was asked of the state.
BOOST_AUTO_TEST_CASE(an_offer_that_comes_again_does_not_hide_lost_answers) {
  state_copy copy(floats, piece, 0);
  const state_copy::question offer{1, name_of(7), 0, false};
  copy.fetch(name_of(7), {1, 2});
  BOOST_TEST((give(copy, offer) == state_copy::taken::kept));
  copy.ask();
  copy.not_there(2);  // all that is asked of site 1 from here on is lost
  bool again = false;
  for (int poll = 0; poll < 5 && !again; ++poll) {
    give(copy, offer);
    for (const auto& q : copy.again()) again = again || q.to == 1;
    copy.not_there(2);
  }
  BOOST_TEST(again);
}

BOOST_AUTO_TEST_CASE(over_a_slow_link_little_is_asked_twice_and_over_a_quick_one_more_at_a_time) {
  state_copy copy(floats, piece, 0);
  const auto first = copy.fetch(name_of(7), {0});
  BOOST_TEST(first.size() == 2U);
  std::size_t again = 0;
  for (int polls = 0; polls < 5; ++polls) again += copy.again().size();
  BOOST_TEST(again == 5U);  // one a poll, and not all that it was asked for
  BOOST_TEST((give(copy, first[0]) == state_copy::taken::kept));
  BOOST_TEST((give(copy, first[1]) == state_copy::taken::kept));
  auto open = copy.ask();
  BOOST_TEST(open.size() == 3U);
  for (const auto& q : open) BOOST_TEST((give(copy, q) == state_copy::taken::kept));
  BOOST_TEST(copy.ask().size() == 6U);
}

BOOST_AUTO_TEST_CASE(when_nobody_has_that_state_any_more_another_one_is_taken) {
  state_copy copy(floats, piece, 0);
  copy.fetch(name_of(6), {0, 1});
  BOOST_TEST(copy.not_there(0).empty());
  const auto any = copy.not_there(1);
  BOOST_TEST_REQUIRE(any.size() == 1U);
  BOOST_TEST(any[0].any);
  BOOST_TEST(!copy.wanted().has_value());
  BOOST_TEST((give(copy, any[0]) == state_copy::taken::kept));
  BOOST_TEST((*copy.wanted() == name_of(7)));
  const auto rest = by_holder(copy.ask());
  BOOST_TEST(rest.size() == 2U);
}

BOOST_AUTO_TEST_CASE(pieces_of_another_state_or_size_are_of_no_use) {
  state_copy copy(floats, piece, 0);
  const auto asked = copy.fetch(name_of(7), {0});
  BOOST_TEST((give(copy, asked[0], 8) == state_copy::taken::useless));
  auto [part, payload] = answer(asked[0]);
  BOOST_TEST((copy.take(0, part, nullptr) == state_copy::taken::useless));
  BOOST_TEST((copy.take(0, part, make_shared_bytes(payload->bytes().first(12))) == state_copy::taken::useless));
  part.begin = 2;
  BOOST_TEST((copy.take(0, part, payload) == state_copy::taken::useless));
  part.begin = 1ULL << 60;
  BOOST_TEST((copy.take(0, part, payload) == state_copy::taken::useless));
  BOOST_TEST(copy.pieces_here() == 0U);
}

BOOST_AUTO_TEST_CASE(after_a_copy_that_was_no_good_holders_are_taken_one_at_a_time) {
  state_copy copy(floats, piece, 0);
  BOOST_TEST(answer_all(copy, copy.fetch(name_of(7), {0, 1, 2})));
  std::set<site_id> asked;
  for (int i = 0; i < 3; ++i) {
    const auto one = copy.discard();
    BOOST_TEST_REQUIRE(one.size() == 1U);
    asked.insert(one[0].to);
    BOOST_TEST((give(copy, one[0]) == state_copy::taken::kept));
    for (const auto& q : copy.ask()) BOOST_TEST(q.to == one[0].to);
  }
  BOOST_TEST(asked == (std::set<site_id>{0, 1, 2}), boost::test_tools::per_element());
}

namespace {

/// Groups of sites that talk at once, and a hook on what they say.
struct talkers {
  static constexpr std::int64_t size = 40;
  time_point now{seconds(100)};
  std::map<site_id, parameter_group> groups;
  std::deque<std::tuple<site_id, site_id, envelope>> queue;
  std::function<void(site_id from, envelope&)> twist = [](site_id, envelope&) {};
  std::map<site_id, std::size_t> pieces;  // by sender

  void add(site_id site, float value) {
    group_settings s;
    s.self = site;
    s.incarnation = 1;
    s.shape.size = size;
    s.shape.tensors = {{0, size}};
    s.codecs.steady = {std::make_shared<testing::test_codec>(0.0F), std::make_shared<testing::test_codec>(0.0F), false};
    s.outer = {outer_kind::nesterov, 1.0F, 0.5F};
    s.piece_floats = 7;
    groups.emplace(site, parameter_group{s, std::vector<float>(size, value)});
  }
  void take(site_id from, const group_actions& actions) {
    for (const auto& action : actions)
      if (const auto* s = std::get_if<group_effect::send>(&action)) queue.emplace_back(from, s->to, s->what);
  }
  void talk() {
    while (!queue.empty()) {
      auto [from, to, what] = std::move(queue.front());
      queue.pop_front();
      if (!groups.contains(to) || !groups.contains(from)) continue;
      twist(from, what);
      pieces[from] += std::holds_alternative<message::state_part>(what.body) ? 1 : 0;
      take(to, groups.at(to).receive(from, 1, what, now));
    }
  }
  void pass(duration d) {
    now += d;
    for (auto& [site, group] : groups) take(site, group.tick(now));
    talk();
  }
  /// Sites 0 to 2 have the group, site 3 joins with another anchor.
  void join() {
    for (site_id site = 0; site < 3; ++site) add(site, 1.5F);
    add(3, 0.0F);
    const held_record held = groups.at(0).held();
    const epoch_view view{1,
                          {{0, 1, false, 0}, {1, 1, false, 0}, {2, 1, false, 0}, {3, 1, true, 0}},
                          {{0, 0, 0, 0, held.record_hash, held.anchor_hash, 0}},
                          "test"};
    for (auto& [site, group] : groups) take(site, group.enter_epoch(view, now));
    talk();
  }
  bool joined() { return groups.at(3).is_settled() && groups.at(3).held() == groups.at(0).held(); }
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_joiner_copies_from_all_members_at_once, talkers) {
  join();
  BOOST_TEST(joined());
  for (site_id site = 0; site < 3; ++site) BOOST_TEST(pieces[site] >= 2U, "site " << site);
  BOOST_TEST(pieces[0] + pieces[1] + pieces[2] == 12U);  // 40 floats and as many of momentum by 7, none twice
}

BOOST_FIXTURE_TEST_CASE(a_joiner_gets_there_although_a_member_sends_bad_bytes, talkers) {
  for (const site_id liar : {0U, 1U, 2U}) {
    groups.clear();
    twist = [&](site_id from, envelope& what) {
      if (from != liar || !std::holds_alternative<message::state_part>(what.body)) return;
      std::vector<std::byte> bad(what.payload->bytes().begin(), what.payload->bytes().end());
      bad[1] ^= std::byte{1};
      what.payload = make_shared_bytes(bad);
    };
    join();
    for (int i = 0; i < 5 && !joined(); ++i) pass(seconds(3));
    BOOST_TEST(joined(), "liar: site " << liar);
    BOOST_TEST(groups.at(3).counters().malformed > 0U);
    BOOST_TEST(groups.at(3).counters().state_copies == 1U);
  }
}

BOOST_FIXTURE_TEST_CASE(a_joiner_goes_on_when_members_fall_silent, talkers) {
  std::size_t said = 0;
  twist = [&](site_id from, envelope& what) {  // one says two pieces, another nothing
    if (std::holds_alternative<message::state_part>(what.body) && (from == 0 || (from == 1 && ++said > 2))) what.body = message::beat{};
  };
  join();
  for (int i = 0; i < 6 && !joined(); ++i) pass(seconds(4));
  BOOST_TEST(joined());
}

BOOST_FIXTURE_TEST_CASE(pieces_of_the_initial_state_are_not_mistaken_for_those_of_the_next_cut, talkers) {
  std::size_t said = 0;
  std::set<round_number> wanted;
  twist = [&](site_id from, envelope& what) {
    if (std::holds_alternative<message::state_part>(what.body) && ++said > 3) what.body = message::beat{};
    if (const auto* w = std::get_if<message::want_state>(&what.body); w != nullptr && from == 3) wanted.insert(w->round);
  };
  join();
  BOOST_TEST(wanted == (std::set<round_number>{0}), boost::test_tools::per_element());
  wanted.clear();
  take(3, groups.at(3).enter_epoch(
              {2, {{0, 1, false, 0}, {1, 1, false, 0}, {3, 1, true, 0}}, {{0, 0, 1, 1, hash128{1, 2}, hash128{3, 4}, 0}}, "test"}, now));
  talk();
  BOOST_TEST(wanted == (std::set<round_number>{1}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_loss_of_a_source_in_the_middle_costs_no_more_than_its_share) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    cluster_settings settings;
    settings.seed = seed;
    settings.sites = 5;
    settings.rounds = 12;
    settings.group_size = 200;  // eighty pieces with the momentum
    cluster c(settings);
    std::map<site_id, std::size_t> pieces;
    bool killed = false, back = false;
    site_id victim = 0;
    c.world().after(std::chrono::milliseconds(800), [&] { c.kill(4); });
    c.world().after(std::chrono::milliseconds(2000), [&] {
      c.restart(4, false);  // a new machine
      back = true;
    });
    c.before_delivery = [&](std::uint64_t, site_id from, site_id to, const envelope& what) {
      if (!back || to != 4 || !std::holds_alternative<message::state_part>(what.body)) return;
      if (++pieces[from] == 6 && !killed) {
        killed = true;
        victim = from;
        c.world().after(std::chrono::milliseconds(1), [&] { c.kill(victim); });
      }
    };
    BOOST_TEST_REQUIRE(c.run(), "seed " << seed << " " << c.state_text());
    BOOST_TEST(killed, "seed " << seed);
    std::size_t others = 0;
    for (const auto& [site, n] : pieces) others += site != victim && n > 0 ? 1 : 0;
    BOOST_TEST(others >= 2U, "seed " << seed);
    expect_one_history(c, settings, "seed " + std::to_string(seed));
  }
}

BOOST_AUTO_TEST_SUITE_END()
