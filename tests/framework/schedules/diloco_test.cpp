#include "framework/core/error.hpp"
#include "framework/schedules/diloco.hpp"

#include <boost/test/unit_test.hpp>

using namespace isthmus;
using action = diloco_schedule::action;

namespace {
bool is(const diloco_schedule& s, action a) { return s.next() == a; }
void settle_all(diloco_schedule& s, round_number round, bool finished = false) {
  s.group_settled(0, round, finished);
  s.group_settled(1, round, finished);
}
}  // namespace

BOOST_AUTO_TEST_SUITE(diloco_test)

BOOST_AUTO_TEST_CASE(h_steps_then_a_contribution_then_a_wait_for_every_group) {
  diloco_schedule s(2, 3);
  BOOST_TEST(is(s, action::wait));
  settle_all(s, 0);
  BOOST_TEST(is(s, action::begin_period));
  s.period_begun();
  for (int step = 0; step < 3; ++step) {
    BOOST_TEST(is(s, action::train_step));
    s.step_done();
  }
  BOOST_TEST(is(s, action::contribute));
  s.contributed();
  BOOST_TEST(is(s, action::wait));
  s.group_settled(1, 1, false);
  BOOST_TEST(is(s, action::wait));
  s.group_settled(0, 1, false);
  BOOST_TEST(is(s, action::begin_period));
}

BOOST_AUTO_TEST_CASE(a_round_that_closed_without_us_cuts_the_period_short) {
  diloco_schedule s(2, 10);
  settle_all(s, 4);
  s.period_begun();
  s.step_done();
  s.yield_asked();
  BOOST_TEST(is(s, action::contribute));
  s.contributed();
  settle_all(s, 5);
  s.period_begun();
  BOOST_TEST(is(s, action::train_step));
}

BOOST_AUTO_TEST_CASE(a_finished_group_is_not_waited_for_but_all_must_finish) {
  diloco_schedule s(2, 1);
  s.group_settled(0, 9, true);
  s.group_settled(1, 8, false);
  s.period_begun();
  s.step_done();
  s.contributed();
  BOOST_TEST(is(s, action::wait));
  s.group_settled(1, 9, true);
  BOOST_TEST(is(s, action::finish));
}

BOOST_AUTO_TEST_CASE(a_pause_stops_steps_but_not_a_contribution) {
  diloco_schedule s(2, 1);
  settle_all(s, 0);
  s.pause();
  BOOST_TEST(is(s, action::wait));
  s.resume();
  s.period_begun();
  s.pause();
  BOOST_TEST(is(s, action::wait));
  s.resume();
  s.step_done();
  s.pause();
  BOOST_TEST(is(s, action::contribute));
}

BOOST_AUTO_TEST_CASE(a_period_cannot_begin_on_an_unsettled_anchor) {
  diloco_schedule s(2, 1);
  s.group_settled(0, 0, false);
  BOOST_CHECK_THROW(s.period_begun(), contract_error);
}

BOOST_AUTO_TEST_SUITE_END()
