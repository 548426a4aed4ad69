#include "tests/framework/rounds/cluster.hpp"

#include <boost/test/unit_test.hpp>

#include <cstring>
#include <vector>

/// A site that holds rounds of a history that ends below them: an epoch lost all its members, and the next one starts from a checkpoint.
using namespace isthmus;
using std::chrono::seconds;

namespace {

constexpr std::int64_t size = 16;

group_settings settings() {
  group_settings s;
  s.self = 2;
  s.incarnation = 1;
  s.shape.size = size;
  s.shape.tensors = {{0, size}};
  s.codecs.steady = {std::make_shared<testing::test_codec>(0.0F), std::make_shared<testing::test_codec>(0.5F), true};
  s.outer = {outer_kind::plain, 1.0F, 0.0F};
  return s;
}

epoch_view epoch(epoch_number number, std::vector<epoch_member> members, site_id home, const held_record& from) {
  const site_id holder = members.front().site;
  return {number, std::move(members), {{0, home, from.round, from.epoch, from.record_hash, from.anchor_hash, holder}}, "test"};
}

shared_bytes frame_of(float value) {
  const std::vector<float> values(size, value);
  return make_shared_bytes(std::as_bytes(std::span(values)));
}

contributor by(site_id site, step_number step) { return {site, 1, step, 8, {{site, 2 * step - 4, 2 * step}}, 0}; }

envelope contribution(site_id site, round_number round, epoch_number number, const hash128& base) {
  const auto frame = frame_of(1.7F);
  return {message::contribution{number, 0, round, by(site, 2 * round), hash_bytes(frame->bytes()), base}, frame};
}

template <class Effect>
std::vector<Effect> all(const group_actions& actions) {
  std::vector<Effect> found;
  for (const auto& action : actions)
    if (const auto* e = std::get_if<Effect>(&action)) found.push_back(*e);
  return found;
}

template <class Message>
std::size_t sent(const group_actions& actions) {
  std::size_t n = 0;
  for (const auto& e : all<group_effect::send>(actions)) n += std::holds_alternative<Message>(e.what.body) ? 1 : 0;
  return n;
}

/// Site 2 as home, alone at first: behind round 1, its contribution to round 2 waits for site 0's.
struct one_round_further {
  time_point now{seconds(100)};
  parameter_group group{settings(), std::vector<float>(size, 0.0F)};
  held_record begin = group.held(), further;

  one_round_further() {
    group.enter_epoch(epoch(1, {{2, 1, false, 0}}, 2, begin), now);
    group.local_contribution(1, frame_of(0.2F), by(2, 2), now);
    BOOST_TEST_REQUIRE(group.round() == 1U);
    further = group.held();
    group.enter_epoch(epoch(2, {{0, 1, false, 0}, {2, 1, false, 0}}, 2, further), now);
    group.local_contribution(2, frame_of(0.4F), by(2, 4), now);
    BOOST_TEST_REQUIRE(group.has_frame_in_flight());
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(rollback_test)

// The new home would count it in a round of the new history, and its samples are trained again: they would be in two rounds.
BOOST_FIXTURE_TEST_CASE(a_contribution_formed_behind_a_void_record_is_not_sent, one_round_further) {
  const auto entered = group.enter_epoch(epoch(3, {{0, 2, false, 0}, {2, 1, true, 0}}, 0, begin), now);
  BOOST_TEST(sent<message::contribution>(entered) == 0U);
  BOOST_TEST(sent<message::want_state>(entered) == 1U);
  const envelope state{message::state_part{3, 0, 0, 0, {}, {}}, frame_of(0.0F)};
  const auto copied = group.receive(0, 2, state, now);
  BOOST_TEST(group.round() == 0U);
  BOOST_TEST(sent<message::contribution>(copied) == 0U);
  BOOST_TEST(all<group_effect::frame_lost>(copied).size() == 1U);
  const auto back = all<group_effect::rolled_back>(copied);
  BOOST_TEST_REQUIRE(back.size() == 1U);
  BOOST_TEST((back[0].leases == std::vector<lease>{{2, 0, 4}}));
}

BOOST_FIXTURE_TEST_CASE(a_home_gives_back_what_it_kept_of_void_rounds, one_round_further) {
  group.enter_epoch(epoch(3, {{0, 2, false, 0}, {2, 1, true, 0}}, 2, begin), now);
  const envelope state{message::state_part{3, 0, 0, 0, {}, {}}, frame_of(0.0F)};
  const auto returned = all<group_effect::residual_returned>(group.receive(0, 2, state, now));
  BOOST_TEST_REQUIRE(returned.size() == 1U);
  BOOST_TEST(returned[0].values->span()[0] == 0.2F, boost::test_tools::tolerance(1e-5F));  // the way down takes halves
}

BOOST_FIXTURE_TEST_CASE(a_home_refuses_a_contribution_of_another_history, one_round_further) {
  const auto refused = group.receive(0, 1, contribution(0, 2, 2, {9, 9}), now);
  BOOST_TEST(group.counters().other_history == 1U);
  BOOST_TEST(sent<message::refused>(refused) == 1U);
  BOOST_TEST(group.counters().rounds_closed == 1U);
  group.receive(0, 1, contribution(0, 2, 2, further.record_hash), now);
  BOOST_TEST(group.counters().other_history == 1U);
  BOOST_TEST(group.counters().rounds_closed == 2U);
}

BOOST_AUTO_TEST_SUITE_END()
