// What a site hears of an epoch before it is told that the epoch has begun.
#include "framework/rounds/parameter_group.hpp"
#include "tests/framework/rounds/cluster.hpp"

#include <boost/test/unit_test.hpp>

#include <array>
#include <functional>
#include <vector>

using namespace isthmus;

namespace {

constexpr std::int64_t size = 8;

group_settings settings_of(site_id site) {
  group_settings s;
  s.self = site;
  s.incarnation = 1;
  s.shape = {0, 0, size, {{0, size}}};
  const auto exact = std::make_shared<testing::test_codec>(0.0F);
  s.codecs.steady = s.codecs.warm_up = {exact, exact, false};
  s.quorum = 2;
  s.deadline.grace = duration{};
  return s;
}

/// The groups of three sites, site 0 their home, and the messages between them: delivered at once, unless `keeps` holds one back.
struct three_sites {
  std::vector<float> start = std::vector<float>(size, 1.0F);
  std::array<parameter_group, 3> at{parameter_group(settings_of(0), start), parameter_group(settings_of(1), start),
                                    parameter_group(settings_of(2), start)};
  std::function<bool(site_id to, const envelope&)> keeps = [](site_id, const envelope&) { return false; };
  std::vector<std::pair<site_id, group_effect::send>> kept;  // by sender
  std::uint64_t states_asked = 0;
  time_point now{std::chrono::seconds(1)};

  void play(site_id from, const group_actions& actions) {
    for (const auto& action : actions) {
      const auto* sent = std::get_if<group_effect::send>(&action);
      if (sent == nullptr) continue;
      if (std::holds_alternative<message::want_state>(sent->what.body)) ++states_asked;
      if (keeps(sent->to, sent->what))
        kept.push_back({from, *sent});
      else
        play(sent->to, at[sent->to].receive(from, 1, sent->what, now));
    }
  }
  void enter(site_id site, epoch_number number, const group_cut& cut) {
    play(site, at[site].enter_epoch({number, {{0, 1}, {1, 1}, {2, 1}}, {cut}, "test"}, now));
  }
  void contribute(site_id site, round_number round) {
    const std::vector<float> values(size, 0.5F);
    contributor meta{site, 1, round, 1, {{0, 8 * round + site, 8 * round + site + 1}}, 0};
    play(site, at[site].local_contribution(round, make_shared_bytes(std::as_bytes(std::span(values))), meta, now));
  }
};

bool is_delta(const envelope& what) { return std::holds_alternative<message::delta>(what.body); }

}  // namespace

BOOST_AUTO_TEST_SUITE(early_test)

// Site 1 stored the record that the next epoch starts from, was told of that epoch last, and had its first round by then.
BOOST_AUTO_TEST_CASE(records_of_the_next_epoch_wait_until_a_site_stands_at_its_cut) {
  three_sites sites;
  const group_cut beginning{0, 0, 0, 0, {}, sites.at[0].held().anchor_hash, 0};
  for (site_id site = 0; site < 3; ++site) sites.enter(site, 1, beginning);
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
