// Processes that end in ways of their own: which of them are started again, and what becomes of the run.
#include "tests/e2e/live_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <csignal>
#include <filesystem>
#include <fstream>

using namespace isthmus;
using namespace isthmus::tests;
using nlohmann::json;

namespace {

/// tiny.toml with something behind it.
std::string recipe_with(const scratch_folder& scratch, const std::string& more) {
  const auto file = scratch.path / "with.toml";
  std::ofstream(file) << text_of("tests/e2e/tiny.toml") << more;
  return file.string();
}

std::string with(std::string text, const std::string& old, const std::string& fresh) {
  const auto at = text.find(old);
  BOOST_TEST_REQUIRE(at != std::string::npos, old);
  return text.replace(at, old.size(), fresh);
}

/// A site's token shard that is damaged while this lives.
class damaged_shard {
public:
  damaged_shard(const live_run& run, std::size_t site) {
    const auto people = json::parse(text_of(run.path() + "/roster.json"));
    file_ = run.path() + "/" + people.at("sites").at(site).at("shard").get<std::string>();
    whole_ = text_of(file_);
    auto other = whole_;
    other[other.size() / 2] ^= 1;
    replace(file_, other);
  }
  ~damaged_shard() { replace(file_, whole_); }
  damaged_shard(const damaged_shard&) = delete;
  damaged_shard& operator=(const damaged_shard&) = delete;

private:
  std::string file_, whole_;
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(ends, scratch_folder)

BOOST_AUTO_TEST_CASE(a_rehearsed_kill_without_a_pause_hides_no_later_one) {
  const auto recipe = recipe_with(*this, "[[faults]]\nat_round = 2\nkind = \"kill\"\nsite = \"beta\"\nback_after_seconds = 0.0\n");
  live_run run(path.string(), "at-once", {"run.tokens=3_000_000"}, recipe);
  BOOST_TEST_REQUIRE(run.until([&] { return run.has_event("restarted", "beta"); }), run.told());
  BOOST_TEST(!run.has_event("died", "beta"));
  run.signal("beta", SIGKILL);
  BOOST_TEST(run.until([&] { return run.count_events("restarted", "beta") == 2; }, 30), run.told());
  BOOST_TEST(run.has_event("died", "beta: SIGKILL"));
  BOOST_TEST(run.wait() == 0, run.told());
  BOOST_TEST(run.ledger().at("complete") == true);
}

BOOST_AUTO_TEST_CASE(a_site_that_stood_still_when_its_launcher_was_killed_makes_room) {
  live_run run(path.string(), "stood-still", {"round.deadline_max_seconds=5.0", "run.tokens=1_500_000"});
  BOOST_TEST_REQUIRE(run.under_way(), run.told());
  const pid_t old = run.pid_of("beta");
  run.signal("beta", SIGSTOP);
  run.signal("launcher", SIGKILL);
  BOOST_TEST(run.wait() == 128 + SIGKILL);
  run.resume();
  const bool left = run.until([&] { return gone(old); }, 60);
  BOOST_TEST(left, "process " << old << " is still there\n" << run.told());
  if (!left) ::kill(old, SIGKILL);
  BOOST_TEST(run.wait() == 0, run.told());
  BOOST_TEST(run.ledger().at("complete") == true);
}

BOOST_AUTO_TEST_CASE(a_site_that_is_refused_is_given_up_and_the_others_finish) {
  live_run run(path.string(), "edited", {"checkpoint.every_rounds=1000", "run.tokens=1_500_000"});
  BOOST_TEST_REQUIRE(run.under_way(2), run.told());
  const auto recipe_file = run.path() + "/recipe.resolved.toml", roster_file = run.path() + "/roster.json";
  const auto recipe = text_of(recipe_file), roster = text_of(roster_file);
  const auto hash = json::parse(roster).at("recipe_hash").get<std::string>();
  replace(recipe_file, with(recipe, "learning_rate = 0.002", "learning_rate = 0.004"));
  const auto edited = json::parse(run_isthmus({"validate", recipe_file, "--json"}).out).at("recipe_hash").get<std::string>();
  replace(roster_file, with(roster, hash, edited));
  run.signal("beta", SIGKILL);
  BOOST_TEST(run.until([&] { return run.has_event("given_up", "beta: exit 6"); }, 60), run.told());
  for (const auto& one : {hash, edited}) BOOST_TEST(run.has_event("given_up", one));
  replace(recipe_file, recipe);
  replace(roster_file, roster);
  BOOST_TEST(run.wait() == 0, run.told());
  BOOST_TEST(contains(text_of(run.path() + ".out"), "a site was given up and the run went on without it: beta: exit 6"), run.told());
  const auto status = json::parse(run.isthmus("status", {"--json"}).out);
  BOOST_TEST(status.at("state") == "finished");
  BOOST_TEST(run.ledger().at("balanced") == true);
  BOOST_TEST(run.count_events("restarted", "beta") == 1U);
}

BOOST_AUTO_TEST_CASE(too_few_sites_end_the_run_with_the_code_of_the_last) {
  live_run run(path.string(), "too-few", {"run.tokens=3_000_000"});
  BOOST_TEST_REQUIRE(run.under_way(), run.told());
  {
    const damaged_shard third(run, 2);
    run.signal("gamma", SIGKILL);
    BOOST_TEST(run.until([&] { return run.has_event("given_up", "gamma: exit 5"); }, 60), run.told());
    BOOST_TEST_REQUIRE(run.under_way(run.committed() + 3), run.told());  // two are enough
    {
      const damaged_shard second(run, 1);
      run.signal("beta", SIGKILL);
      BOOST_TEST(run.wait() == 5, run.told());
    }
    BOOST_TEST(contains(text_of(run.path() + ".out"), "1 of 3 sites are too few"), run.told());
    run.resume();  // nobody of the last epoch is up to vouch for it: all must come back
    BOOST_TEST(run.wait() == 5, run.told());
    BOOST_TEST(contains(text_of(run.path() + ".out"), "2 of 3 sites are too few"), run.told());
  }
  run.resume();
  BOOST_TEST(run.wait() == 0, run.told());
  BOOST_TEST(run.ledger().at("complete") == true);
}

BOOST_AUTO_TEST_SUITE_END()
