// One site, fixed seed: a run that was stopped in whatever way goes on bit for bit as if nothing had happened.
#include "tests/e2e/live_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

using namespace isthmus;
using namespace isthmus::tests;

namespace {

const std::vector<std::string> alone{"run.deterministic=true", "run.tokens=200_000"};

/// Loss by step, of the last time that the step was done.
std::map<step_number, double> losses(const live_run& run) {
  std::map<step_number, double> out;
  for (const auto& row : run.samples()) out[row.step] = row.loss;
  return out;
}

void check_same(const live_run& run, const std::map<step_number, double>& whole) {
  const auto found = losses(run);
  BOOST_TEST(found.size() == whole.size());
  int differences = 0;
  for (const auto& [step, loss] : whole) {
    const auto other = found.find(step);
    if ((other == found.end() || other->second != loss) && ++differences <= 3)
      BOOST_ERROR("step " << step << ": loss " << (other == found.end() ? 0 : other->second) << " instead of " << loss);
  }
  BOOST_TEST(differences == 0);
}

/// Files of a stopped run are damaged one by one: each time `verb` names the file and what is wrong, and loses nothing.
void check_damage_is_told(const live_run& run) {
  const auto shard =
      run.path() + "/" + nlohmann::json::parse(text_of(run.path() + "/roster.json")).at("sites").at(0).at("shard").get<std::string>();
  const auto damaged = [&](const std::string& verb, const std::string& path, const std::string& bytes, const std::string& words) {
    const auto whole = text_of(path);
    replace(path, bytes);
    const auto o = run.isthmus(verb);
    BOOST_TEST(o.code == 5, o.err);
    BOOST_TEST(contains(o.out + o.err, words), o.err << " lacks " << words);
    replace(path, whole);
  };
  auto flipped = text_of(shard);
  flipped[flipped.size() / 2] ^= 1;
  damaged("resume", shard, flipped, shard + ": byte 168: the train section");
  damaged("resume", shard, flipped.substr(0, 1000), shard + ": byte");
  auto roster = nlohmann::json::parse(text_of(run.path() + "/roster.json"));
  roster["sites"][0]["content"] = std::string(32, 'a');
  damaged("resume", run.path() + "/roster.json", roster.dump(), "the shard was replaced");
  damaged("resume", run.path() + "/launcher.json", "{", "launcher.json");
  damaged("generate", run.path() + "/data/tokenizer.json", "{\"version\": oops", "data/tokenizer.json:1:13: not JSON");
}

/// Each process has a key that nobody else may read, and nothing else in the run's folder has the secret in it, as text or as bytes.
void check_secrets(const live_run& run) {
  std::vector<std::string> secrets;
  for (const std::string process : {"coordinator", "site-0"}) {
    const auto file = run.path() + "/sites/" + process + "/key";
    const auto mode = std::filesystem::status(file).permissions();
    BOOST_TEST((mode == (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write)));
    const auto text = text_of(file), hex = text.substr(text.size() - 65, 64);
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    secrets.insert(secrets.end(), {hex, bytes});
  }
  for (const auto& entry : std::filesystem::recursive_directory_iterator(run.path())) {
    if (!entry.is_regular_file() || entry.path().filename() == "key") continue;
    const auto text = text_of(entry.path());
    for (const auto& secret : secrets) BOOST_TEST(!contains(text, secret), entry.path().string());
  }
}

/// The newest checkpoint of the run is damaged: text is made from the one before, and that is said.
void check_text_from_an_older_checkpoint(const live_run& run) {
  const auto whole = run.isthmus("generate", {"--tokens", "4", "--json"});
  BOOST_TEST_REQUIRE(whole.code == 0, whole.err);
  const auto newest = nlohmann::json::parse(whole.out);
  BOOST_TEST(newest.at("warnings").empty());
  const auto folder = newest.at("checkpoint").get<std::string>();
  std::fstream(run.path() + "/" + folder + "/model.safetensors", std::ios::in | std::ios::out).seekp(4096) << "damage";
  const auto older = run.isthmus("generate", {"--tokens", "4", "--json"});
  BOOST_TEST_REQUIRE(older.code == 0, older.err);
  const auto answer = nlohmann::json::parse(older.out);
  BOOST_TEST(answer.at("checkpoint") != folder);
  BOOST_TEST_REQUIRE(answer.at("warnings").size() == 1U);
  BOOST_TEST(contains(answer.at("warnings").at(0), folder + "/model.safetensors"));
  BOOST_TEST(contains(older.err, "warning"), older.err);
  BOOST_TEST(contains(older.err, folder), older.err);
}

/// On every row that is held out: below a guess, and near what the run told of its sample of them.
void check_evaluation(const live_run& run) {
  const auto o = run.isthmus("evaluate", {"--json"});
  BOOST_TEST_REQUIRE(o.code == 0, o.err);
  const auto answer = nlohmann::json::parse(o.out);
  BOOST_TEST(answer.at("tokens").get<int>() >= 2048);
  const auto told = nlohmann::json::parse(run.isthmus("status", {"--json"}).out).at("held_out").back();
  BOOST_TEST(answer.at("round") == told.at("round"));
  BOOST_TEST(std::abs(answer.at("loss").get<double>() - told.at("loss").get<double>()) < 0.5, answer.dump() << told.dump());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(single)

BOOST_AUTO_TEST_CASE(stop_and_resume_is_bit_for_bit_the_unbroken_run) {
  const scratch_folder scratch;
  const auto root = scratch.path.string(), recipe = one_site_recipe((scratch.path / "alone.toml").string());
  live_run whole(root, "whole", alone, recipe);
  BOOST_TEST_REQUIRE(whole.wait() == 0, whole.told());
  const auto expected_losses = losses(whole);
  BOOST_TEST(expected_losses.size() == 800U);
  check_evaluation(whole);
  check_text_from_an_older_checkpoint(whole);

  live_run stopped(root, "stopped", alone, recipe);
  BOOST_TEST(stopped.until([&] { return stopped.committed() >= 7; }), stopped.told());
  stopped.signal("launcher", SIGTERM);
  BOOST_TEST(stopped.wait() == 7, stopped.told());
  BOOST_TEST(losses(stopped).size() < expected_losses.size(), "the run was over before it was stopped");
  check_damage_is_told(stopped);
  check_secrets(stopped);
  std::filesystem::remove(stopped.path() + "/sites/site-0/key");  // as in a run that was begun before links were sealed: it gets one
  stopped.resume();
  BOOST_TEST(stopped.wait() == 0, stopped.told());
  check_same(stopped, expected_losses);
  BOOST_TEST(stopped.ledger().at("balanced") == true);

  auto elsewhere = alone;
  elsewhere.emplace_back("sites.0.address=127.8.9.10:0");  // the coordinator comes along
  live_run killed(root, "killed", elsewhere, recipe);
  BOOST_TEST(killed.until([&] { return killed.has_checkpoint(0) && killed.committed() >= 8; }), killed.told());
  BOOST_TEST_REQUIRE(!killed.over(), "the run was over before it was killed");
  const auto people = nlohmann::json::parse(text_of(killed.path() + "/roster.json"));
  BOOST_TEST(contains(people.at("coordinator").at("address").get<std::string>(), "127.8.9.10:"));
  killed.kill_all();
  killed.resume();
  BOOST_TEST(killed.wait() == 0, killed.told());
  check_same(killed, expected_losses);
  BOOST_TEST(killed.ledger().at("balanced") == true);
}

BOOST_AUTO_TEST_SUITE_END()
