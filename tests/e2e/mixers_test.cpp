// The recipe of all mixers, for a few rounds: killed and resumed it goes on bit for bit, and what it has learned writes text.
#include "tests/e2e/live_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <utility>
#include <vector>

using namespace isthmus;
using namespace isthmus::tests;

namespace {

constexpr const char* recipe = "recipes/mixers.toml";
const std::vector<std::string> short_run{"run.deterministic=true",      "run.tokens=6144",          "train.tokens_per_step=512",
                                         "train.warm_up_tokens=2000",   "round.inner_steps=2",      "checkpoint.every_rounds=2",
                                         "data.text_bytes_max=500_000", "data.held_out_tokens=1024"};

/// The hash of the anchor that each round of each group led to, also where it was gone through twice.
std::multimap<std::pair<group_id, round_number>, std::string> anchors(const live_run& run) {
  std::multimap<std::pair<group_id, round_number>, std::string> out;
  for (const auto& row : run.rounds()) out.emplace(std::pair{row.group, row.round}, row.anchor_hash);
  return out;
}

/// What the newest checkpoint writes, and of which round it is.
std::pair<std::string, round_number> text_of_run(const live_run& run) {
  const auto o = run.isthmus("generate", {"--tokens", "16", "--seed", "1", "--json"});
  BOOST_TEST_REQUIRE(o.code == 0, o.err);
  const auto answer = nlohmann::json::parse(o.out);
  BOOST_TEST(answer.at("warnings").empty());
  return {answer.at("text").get<std::string>(), answer.at("round").get<round_number>()};
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(mixers, scratch_folder)

BOOST_AUTO_TEST_CASE(killed_and_resumed_all_mixers_go_on_bit_for_bit_and_write_text) {
  live_run whole(path.string(), "whole", short_run, recipe);
  BOOST_TEST_REQUIRE(whole.wait() == 0, whole.told());
  const auto wanted = anchors(whole);
  BOOST_TEST(wanted.size() == 12U);  // 6 rounds of 2 groups

  live_run killed(path.string(), "killed", short_run, recipe);
  BOOST_TEST(killed.until([&] { return killed.has_checkpoint(0) && killed.committed() >= 3; }), killed.told());
  BOOST_TEST_REQUIRE(!killed.over(), "the run was over before it was killed");
  killed.kill_all();
  BOOST_TEST(killed.committed() < 6U);
  killed.resume();
  BOOST_TEST(killed.wait() == 0, killed.told());
  const auto found = anchors(killed);
  for (const auto& [of, hash] : wanted) BOOST_TEST(found.count(of) >= 1U, "group " << of.first << " has no round " << of.second);
  for (const auto& [of, hash] : found) BOOST_TEST(wanted.find(of)->second == hash, "group " << of.first << ", round " << of.second);
  BOOST_TEST(killed.ledger().at("balanced") == true);

  const auto [text, round] = text_of_run(whole);
  BOOST_TEST(round == 6U);
  BOOST_TEST(!text.empty());
  BOOST_TEST((text_of_run(killed) == std::pair{text, round}));
}

BOOST_AUTO_TEST_SUITE_END()
