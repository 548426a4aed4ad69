// Homes call for contributions that are missing, and who has nothing passes.
#include "tests/framework/rounds/three_sites.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>

using namespace isthmus;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::three_sites;

BOOST_AUTO_TEST_SUITE(call_test)

BOOST_AUTO_TEST_CASE(at_the_quorum_the_missing_are_called_and_the_round_closes_with_the_last_of_them) {
  three_sites sites;
  sites.begin();
  sites.contribute(0, 1);
  BOOST_TEST(sites.called.empty());
  sites.contribute(2, 1);
  BOOST_TEST(sites.called == std::vector<site_id>{1}, boost::test_tools::per_element());
  BOOST_TEST(sites.at[0].round() == 0U);  // within the grace window
  sites.contribute(1, 1);
  BOOST_TEST(sites.at[0].round() == 1U);
  BOOST_TEST(sites.at[0].record().contributors.size() == 3U);
}

BOOST_AUTO_TEST_CASE(who_passes_is_not_waited_for) {
  three_sites sites;
  sites.begin();
  sites.contribute(0, 1);
  sites.contribute(2, 1);
  sites.pass(1);
  BOOST_TEST(sites.at[0].round() == 1U);
  BOOST_TEST(sites.at[0].record().contributors.size() == 2U);
  sites.contribute(0, 2);  // the next round asks anew
  sites.contribute(1, 2);
  BOOST_TEST(sites.at[0].round() == 1U);
  BOOST_TEST(sites.called.back() == 2U);
}

// The first contribution of a round has waited for long: all others are asked, and where none has anything, it is enough.
BOOST_AUTO_TEST_CASE(below_the_quorum_the_missing_are_called_after_the_grace_window) {
  three_sites sites([](group_settings& s) { s.quorum = 3; });
  sites.begin();
  sites.contribute(2, 1);
  sites.tick_all(milliseconds(4900));
  BOOST_TEST(sites.called.empty());
  sites.tick_all(milliseconds(200));
  std::ranges::sort(sites.called);
  BOOST_TEST(sites.called == (std::vector<site_id>{0, 1}), boost::test_tools::per_element());
  sites.tick_all(seconds(60));
  BOOST_TEST(sites.at[0].round() == 0U);
  sites.pass(0);
  BOOST_TEST(sites.at[0].round() == 0U);
  sites.pass(1);
  BOOST_TEST(sites.at[0].round() == 1U);
}

BOOST_AUTO_TEST_CASE(a_call_that_was_lost_is_said_again) {
  three_sites sites;
  sites.begin();
  sites.contribute(0, 1);
  sites.keeps = [](site_id, const envelope& what) { return std::holds_alternative<message::call>(what.body); };
  sites.contribute(2, 1);
  sites.keeps = [](site_id, const envelope&) { return false; };
  BOOST_TEST(sites.called.empty());
  sites.tick_all(milliseconds(2100));  // site 1 asks for the record
  BOOST_TEST(sites.called == std::vector<site_id>{1}, boost::test_tools::per_element());
}

// In a deterministic run every contribution is of a whole period; and a home that can only wait does not ask to be woken for nothing.
BOOST_AUTO_TEST_CASE(without_calls_a_round_waits_for_its_quorum_quietly) {
  three_sites sites([](group_settings& s) {
    s.quorum = 3;
    s.calls = false;
  });
  sites.begin();
  sites.contribute(0, 1);
  sites.contribute(1, 1);
  for (int i = 0; i < 20; ++i) {
    sites.wakes.clear();
    sites.tick_all(seconds(1));
    for (const auto& [site, when] : sites.wakes) BOOST_TEST((when > sites.now), "site " << site << " asks to be woken at once");
  }
  BOOST_TEST(sites.calls_sent == 0U);
  BOOST_TEST(sites.at[0].round() == 0U);
  sites.contribute(2, 1);
  BOOST_TEST(sites.at[0].round() == 1U);
}

BOOST_AUTO_TEST_CASE(who_was_not_waited_for_is_told_once) {
  three_sites sites;
  sites.begin();
  const auto round_without_2 = [&](round_number round) {
    sites.contribute(0, round);
    sites.contribute(1, round);
    for (int i = 0; i < 100 && sites.at[0].round() < round; ++i) sites.tick_all(seconds(1));
    BOOST_TEST(sites.at[0].round() == round);
  };
  round_without_2(1);
  BOOST_REQUIRE(sites.closed_without.size() == 1U);
  const auto& told = sites.closed_without.front();
  BOOST_TEST(told.round == 1U);
  BOOST_TEST(told.missing == std::vector<site_id>{2}, boost::test_tools::per_element());
  BOOST_TEST(told.here == 2U);
  BOOST_TEST(told.quorum == 2U);
  BOOST_TEST((told.waited >= seconds(1)));
  round_without_2(2);
  BOOST_TEST(sites.closed_without.size() == 1U);
  for (site_id site = 0; site < 3; ++site) sites.contribute(site, 3);
  BOOST_TEST(sites.at[0].round() == 3U);
  round_without_2(4);
  BOOST_TEST(sites.closed_without.size() == 2U);
}

BOOST_AUTO_TEST_SUITE_END()
