// The same scenario in both tiers: simulated, and with real processes.
#include "tests/e2e/live_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sys/wait.h>
#include <thread>

using namespace isthmus;
using namespace isthmus::tests;
using nlohmann::json;

namespace {

/// tiny.toml at a pace, 10 s of it, with a fault of each sort.
std::string scenario(const std::filesystem::path& folder, const std::string& more = {}) {
  const auto file = (folder / "scenario.toml").string();
  std::ifstream base("tests/e2e/tiny.toml");
  std::string text((std::istreambuf_iterator<char>(base)), {});
  for (std::size_t at = 0; (at = text.find("source =", at)) != std::string::npos; at += 40) text.insert(at, "tokens_per_second = 4000\n");
  text += R"(
[scenario]
fault_seconds = 11
heal_seconds = 120
)" + (more.empty() ? R"(
[[faults]]
kind = "kill"
site = "gamma"
at_seconds = 2
back_after_seconds = 1
[[faults]]
kind = "cut"
site = "beta"
peer = "alpha"
at_seconds = 4
back_after_seconds = 1
[[faults]]
kind = "slow"
site = "alpha"
at_seconds = 5
back_after_seconds = 2
[[faults]]
kind = "delay"
site = "any"
at_seconds = 6
back_after_seconds = 1
amount = 0.05
[[faults]]
kind = "reset"
site = "alpha"
peer = "gamma"
at_seconds = 6.5
[[faults]]
kind = "tear"
site = "beta"
at_seconds = 7
[[faults]]
kind = "disk_full"
site = "gamma"
at_seconds = 8
back_after_seconds = 1
[[faults]]
kind = "leave"
site = "beta"
at_seconds = 10
back_after_seconds = 1
)"
                   : more);
  std::ofstream(file) << text;
  return file;
}

const std::vector<std::string> overrides{"run.tokens=156_000", "round.inner_steps=10", "scenario.step_seconds=0.064"};

outcome play(const std::string& file, const std::filesystem::path& runs, std::vector<std::string> more) {
  std::vector<std::string> arguments{"sim", file, "--json", "--quiet"};
  arguments.insert(arguments.end(), overrides.begin(), overrides.end());
  arguments.insert(arguments.end(), more.begin(), more.end());
  surroundings where;
  where.environment = {"ISTHMUS_RUNS=" + runs.string()};
  return run_isthmus(arguments, where);
}

std::map<std::string, int> kinds_of(const json& faults) {
  std::map<std::string, int> kinds;
  for (const auto& f : faults) ++kinds[f.at("kind").get<std::string>()];
  return kinds;
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> out;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    std::ifstream status(entry.path() / "status");
    for (std::string line; pid > 0 && std::getline(status, line);)
      if (line == "PPid:\t" + std::to_string(parent)) out.push_back(pid);
  }
  return out;
}

void check_both_tiers(const std::filesystem::path& folder, const std::string& links) {
  const auto file = scenario(folder);
  const auto simulated = play(file, folder, {});
  BOOST_TEST_REQUIRE(simulated.code == 0, simulated.out << simulated.err);
  const auto real = play(file, folder, {"--real", "--links", links});
  BOOST_TEST_REQUIRE(real.code == 0, real.out << real.err);
  const auto a = json::parse(simulated.out), b = json::parse(real.out);
  // Promised: every site ends well, ledgers balance and are complete, and all that was planned is trained and committed, once.
  BOOST_TEST(a.at("failed").empty());
  BOOST_TEST(b.at("kept") == true);
  BOOST_TEST(b.at("goodput").get<double>() <= 1.01);  // nobody trains faster than its pace, whatever it has lost
  for (const auto& report : {a, b}) {
    const std::int64_t committed =
        report.at("samples").get<std::int64_t>() - report.at("returned").get<std::int64_t>() - report.at("written_off").get<std::int64_t>();
    BOOST_TEST(committed * 64 >= 156'000);
  }
  // And it was the same that was done to them.
  auto planned = kinds_of(b.at("faults"));
  BOOST_TEST(planned.size() == 8U);
  for (const auto& [kind, n] : a.at("faults").items()) BOOST_TEST(n == planned[kind], kind);  // also those of which there was none
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(real_sim, scratch_folder)

BOOST_AUTO_TEST_CASE(both_tiers_keep_what_is_promised) { check_both_tiers(path, "auto"); }

BOOST_AUTO_TEST_CASE(so_they_do_where_processes_hurt_their_own_frames) { check_both_tiers(path, "frames"); }

BOOST_AUTO_TEST_CASE(a_black_hole_is_left_out_and_comes_back) {
  const auto file = scenario(path, R"(
[[faults]]
kind = "cut"
site = "beta"
at_seconds = 3
back_after_seconds = 5
)");
  for (const char* links : {"auto", "frames"}) {
    const auto real = play(file, path, {"--real", "--links", links});
    BOOST_TEST_REQUIRE(real.code == 0, real.out << real.err);
    const auto fault = json::parse(real.out).at("faults").at(0);
    BOOST_TEST(fault.at("excluded_seconds").is_number(), fault.dump());
    BOOST_TEST(fault.at("back_seconds").is_number(), fault.dump());
  }
}

BOOST_AUTO_TEST_CASE(what_cannot_be_done_for_real_is_refused) {
  const auto file = scenario(path, "[[faults]]\nkind = \"disk_error\"\nsite = \"beta\"\nat_seconds = 1\n");
  const auto real = play(file, path, {"--real"});
  BOOST_TEST(real.code == 3);
  BOOST_TEST(contains(real.err, "cannot be done to real processes"), real.err);
  BOOST_TEST(play(file, path, {"--real", "--seeds", "1..2"}).code == 2);
  BOOST_TEST(play(file, path, {"--run-folder", "x"}).code == 2);
}

BOOST_AUTO_TEST_CASE(a_run_that_does_not_heal_in_time_has_broken_its_promise) {
  const auto file = scenario(path, "[[faults]]\nkind = \"kill\"\nsite = \"beta\"\nat_seconds = 1\n");
  const auto real = play(file, path, {"--real", "scenario.fault_seconds=2", "scenario.heal_seconds=2"});
  BOOST_TEST(real.code == 8, real.out << real.err);
  BOOST_TEST(contains(real.out, "did not end within 2"), real.out);
}

BOOST_AUTO_TEST_CASE(a_killed_launcher_leaves_no_process_behind) {
  const auto file = scenario(path);
  const auto log = (path / "told").string();
  surroundings where;
  where.environment = {"ISTHMUS_RUNS=" + path.string()};
  where.output = log;
  const pid_t launcher = start_isthmus({"sim", file, "--real", "--run-folder", (path / "run").string(), "run.tokens=156_000"}, where);
  const auto told = [&] {
    std::ifstream in(log);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  };
  for (int i = 0; i < 1200 && !contains(told(), "the run begins"); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  BOOST_TEST_REQUIRE(contains(told(), "the run begins"), told());
  const auto children = children_of(launcher);
  BOOST_TEST(children.size() == 4U);
  ::kill(launcher, SIGKILL);
  BOOST_TEST(::waitpid(launcher, nullptr, 0) == launcher);
  const auto alive = [&] { return std::count_if(children.begin(), children.end(), [](pid_t pid) { return !gone(pid); }); };
  for (int i = 0; i < 1200 && alive() > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  BOOST_TEST(alive() == 0);
}

BOOST_AUTO_TEST_SUITE_END()
