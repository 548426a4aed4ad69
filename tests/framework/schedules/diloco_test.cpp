#include "framework/core/error.hpp"
#include "framework/schedules/diloco.hpp"

#include <boost/test/unit_test.hpp>

#include <vector>

using namespace isthmus;
using action = diloco_schedule::action;
using groups = std::vector<group_id>;

namespace {

bool is(const diloco_schedule& s, action a) { return s.next() == a; }

void settle(diloco_schedule& s, const groups& which) {
  for (const group_id g : which) s.group_settled(g, false);
}

void load_all(diloco_schedule& s) {
  BOOST_TEST_REQUIRE(is(s, action::load));
  for (const group_id g : s.to_load()) s.group_loaded(g);
}

/// A period of two groups has begun.
diloco_schedule begun(std::uint32_t inner_steps) {
  diloco_schedule s(2, inner_steps);
  settle(s, {0, 1});
  load_all(s);
  BOOST_TEST_REQUIRE(is(s, action::begin_period));
  s.period_begun();
  return s;
}

void train(diloco_schedule& s, int steps) {
  for (int i = 0; i < steps; ++i) {
    BOOST_TEST_REQUIRE(is(s, action::train_step));
    s.step_done();
  }
}

void hand_in(diloco_schedule& s, const groups& expected) {
  BOOST_TEST_REQUIRE(is(s, action::hand_in));
  BOOST_TEST(s.to_hand_in() == expected, boost::test_tools::per_element());
  for (const group_id g : s.to_hand_in()) s.handed_in(g);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(diloco_test)

BOOST_AUTO_TEST_CASE(h_steps_then_a_contribution_then_a_wait_for_every_group) {
  diloco_schedule s(2, 3);
  BOOST_TEST(is(s, action::wait));
  settle(s, {0, 1});
  load_all(s);
  BOOST_TEST(is(s, action::begin_period));
  s.period_begun();
  train(s, 3);
  hand_in(s, {0, 1});
  BOOST_TEST(is(s, action::wait));
  s.group_settled(1, false);
  BOOST_TEST(is(s, action::wait));
  s.group_settled(0, false);
  load_all(s);
  BOOST_TEST(is(s, action::begin_period));
}

BOOST_AUTO_TEST_CASE(rounds_that_close_everywhere_end_the_period_and_the_next_one_is_whole) {
  auto s = begun(10);
  train(s, 4);
  s.round_closes(0);
  s.round_closed(1);
  hand_in(s, {0, 1});
  BOOST_TEST(is(s, action::wait));
  settle(s, {0, 1});
  load_all(s);
  s.period_begun();
  train(s, 10);
  hand_in(s, {0, 1});
}

// The other group's round is still open: it gets the whole period, while this one goes on with the beat of its own rounds.
BOOST_AUTO_TEST_CASE(a_round_that_closed_without_us_leaves_the_other_group_s_period_whole) {
  auto s = begun(10);
  train(s, 4);
  s.round_closed(0);
  hand_in(s, {0});
  BOOST_TEST(is(s, action::wait));
  s.group_settled(0, false);
  load_all(s);
  train(s, 6);
  hand_in(s, {0, 1});  // more than half a period is due, too
  settle(s, {0, 1});
  load_all(s);
  BOOST_TEST(is(s, action::begin_period));
  s.period_begun();
  train(s, 10);
  hand_in(s, {0, 1});
}

BOOST_AUTO_TEST_CASE(less_than_half_a_period_waits_for_the_next_one_or_for_a_call) {
  auto s = begun(10);
  train(s, 6);
  s.round_closed(0);
  hand_in(s, {0});
  s.group_settled(0, false);
  load_all(s);
  train(s, 4);
  hand_in(s, {1});
  s.round_closes(0);
  hand_in(s, {0});
}

BOOST_AUTO_TEST_CASE(what_is_not_in_the_weights_cannot_be_handed_in) {
  diloco_schedule s(2, 3);
  s.round_closes(0);
  s.round_closed(1);
  settle(s, {0, 1});
  load_all(s);
  BOOST_TEST(is(s, action::begin_period));
}

BOOST_AUTO_TEST_CASE(a_group_that_is_copied_does_not_hold_up_the_others_contributions) {
  auto s = begun(10);
  train(s, 4);
  s.round_closed(0);
  hand_in(s, {0});
  s.group_unsettled(0);
  hand_in(s, {1});
  s.group_settled(1, false);
  BOOST_TEST(is(s, action::wait));
  s.group_settled(0, false);
  load_all(s);
  BOOST_TEST(is(s, action::begin_period));
}

BOOST_AUTO_TEST_CASE(a_finished_group_is_not_waited_for_but_all_must_finish) {
  diloco_schedule s(2, 1);
  s.group_settled(0, true);
  s.group_settled(1, false);
  load_all(s);
  s.period_begun();
  train(s, 1);
  hand_in(s, {0, 1});
  BOOST_TEST(is(s, action::wait));
  s.group_settled(1, true);
  load_all(s);
  BOOST_TEST(is(s, action::finish));
}

BOOST_AUTO_TEST_CASE(a_pause_stops_steps_but_not_a_contribution) {
  diloco_schedule s(2, 1);
  settle(s, {0, 1});
  load_all(s);
  s.pause();
  BOOST_TEST(is(s, action::wait));
  s.resume();
  s.period_begun();
  s.pause();
  BOOST_TEST(is(s, action::wait));
  s.resume();
  s.step_done();
  s.pause();
  BOOST_TEST(is(s, action::hand_in));
}

BOOST_AUTO_TEST_CASE(a_period_cannot_begin_on_an_unsettled_anchor) {
  diloco_schedule s(2, 1);
  s.group_settled(0, false);
  BOOST_CHECK_THROW(s.period_begun(), contract_error);
}

BOOST_AUTO_TEST_SUITE_END()
