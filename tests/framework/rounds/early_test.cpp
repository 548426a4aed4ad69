// What a site hears of an epoch before it is told that the epoch has begun.
#include "tests/framework/rounds/three_sites.hpp"

#include <boost/test/unit_test.hpp>

using namespace isthmus;
using testing::three_sites;

namespace {

bool is_delta(const envelope& what) { return std::holds_alternative<message::delta>(what.body); }

}  // namespace

BOOST_AUTO_TEST_SUITE(early_test)

// Site 1 stored the record that the next epoch starts from, was told of that epoch last, and had its first round by then.
BOOST_AUTO_TEST_CASE(records_of_the_next_epoch_wait_until_a_site_stands_at_its_cut) {
  three_sites sites([](group_settings& s) {
    s.quorum = 2;
    s.deadline.grace = duration{};
  });
  sites.begin();
  sites.keeps = [](site_id to, const envelope& what) { return to == 1 && !is_delta(what); };  // site 1 stores, and hears of no commit
  sites.contribute(0, 1);
  sites.contribute(2, 1);
  BOOST_TEST_REQUIRE(sites.at[0].round() == 1U);
  BOOST_TEST_REQUIRE(sites.at[1].round() == 0U);
  BOOST_TEST_REQUIRE(sites.at[1].held().round == 1U);

  const auto& record = sites.at[0].record();
  const group_cut second{0, 0, 1, 1, hash_record(record), record.anchor_hash, 0};
  sites.keeps = [](site_id, const envelope&) { return false; };
  sites.enter(0, 2, second);
  sites.enter(2, 2, second);
  sites.contribute(0, 2);
  sites.contribute(2, 2);
  BOOST_TEST_REQUIRE(sites.at[0].round() == 2U);
  BOOST_TEST_REQUIRE(sites.at[1].counters().early > 0U);
  BOOST_TEST_REQUIRE(sites.at[1].round() == 0U);

  sites.enter(1, 2, second);
  BOOST_TEST(sites.at[1].round() == 2U);
  BOOST_TEST(sites.at[1].is_settled());
  BOOST_TEST(sites.states_asked == 0U);
  BOOST_TEST((sites.at[1].held() == sites.at[0].held()));
}

BOOST_AUTO_TEST_SUITE_END()
