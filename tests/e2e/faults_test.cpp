// Real processes are killed, stopped and brought back; every run must end well, and its ledgers must balance.
#include "tests/e2e/live_run.hpp"

#include <boost/test/unit_test.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <map>
#include <set>
#include <sys/wait.h>
#include <tuple>

using namespace isthmus;
using namespace isthmus::tests;
using nlohmann::json;

namespace {

constexpr int site_count = 3;
using place = std::pair<int, int>;  // group, round

/// Of records that no cut voided at that site: one anchor hash per group, epoch and round, over the sites that applied it.
void check_anchors(const live_run& run) {
  std::map<std::tuple<int, int, int>, std::set<std::string>> anchors;
  std::map<std::tuple<int, int, int>, int> applied;
  for (site_id site = 0; site < site_count; ++site)
    for (const auto& line : run.lines(site)) {
      if (line.at("t") != "applied") continue;
      const auto& r = line.at("record");
      const std::tuple key{r.at("group").get<int>(), r.at("epoch").get<int>(), r.at("round").get<int>()};
      anchors[key].insert(r.at("anchor_hash").get<std::string>());
      ++applied[key];
    }
  BOOST_TEST(anchors.size() >= 20U);
  int shared = 0;
  for (const auto& [key, hashes] : anchors) {
    BOOST_TEST(hashes.size() == 1U, "group " << std::get<0>(key) << " round " << std::get<2>(key));
    shared += applied[key] > 1;
  }
  BOOST_TEST(shared >= 10);
}

void check_good_end(live_run& run) {
  const int code = run.wait();
  BOOST_TEST(code == 0, run.told());
  const auto report = run.ledger();
  BOOST_TEST(report.at("balanced") == true, report.dump(1));
  BOOST_TEST(report.at("complete") == true);
  BOOST_TEST(report.at("groups").size() == 3U);
  check_anchors(run);
  const auto status = run.isthmus("status", {"--json"});
  BOOST_TEST(status.code == 0);
  BOOST_TEST(json::parse(status.out).at("state") == "finished");
}

/// Each time the site has come back: it entered an epoch, and its anchor of a group was what its peers have, before it contributed.
void check_returned(const live_run& run, site_id site) {
  std::map<place, std::set<std::string>> peers;
  for (site_id other = 0; other < site_count; ++other)
    if (other != site)
      for (const auto& line : run.lines(other))
        if (line.at("t") == "applied" || line.at("t") == "stored") {
          const auto& r = line.at("record");
          peers[{r.at("group"), r.at("round")}].insert(r.at("anchor_hash").get<std::string>());
        }
  int starts = 0, contributions = 0;
  std::map<int, int> entered;         // group -> round it stood at
  std::map<int, std::string> anchor;  // group -> that of the last record applied or copied
  std::map<int, int> stands;
  for (const auto& line : run.lines(site)) {
    const auto type = line.at("t").get<std::string>();
    if (type == "started") {
      ++starts;
      entered.clear();
      anchor.clear();
    } else if (type == "entered") {
      entered[line.at("group")] = line.at("round");
    } else if (type == "applied" || type == "copied") {
      const auto& r = line.at("record");
      anchor[r.at("group")] = r.at("anchor_hash").get<std::string>();
      stands[r.at("group")] = r.at("round");
    } else if (type == "mass" && line.at("event") == "formed" && starts > 1) {
      const int group = line.at("group");
      ++contributions;
      BOOST_TEST(entered.contains(group), "a contribution before the epoch was entered");
      const place at(group, stands[group]);
      if (anchor.contains(group)) BOOST_TEST(peers[at].contains(anchor[group]), "group " << group << " round " << at.second);
    }
  }
  BOOST_TEST(starts >= 2);
  BOOST_TEST(contributions > 0, "the site came back but never contributed again");
}

/// In the last epoch, rounds of every group have a contribution of the site.
void check_counts_again(const live_run& run, site_id site) {
  int epoch = 0;
  std::map<int, int> rounds;
  for (const auto& line : run.lines(site == 0 ? 1 : 0)) {
    if (line.at("t") != "applied") continue;
    const auto& record = line.at("record");
    if (record.at("epoch") > epoch) {
      epoch = record.at("epoch");
      rounds.clear();
    }
    for (const auto& c : record.at("contributors")) rounds[record.at("group")] += c.at("site") == site;
  }
  BOOST_TEST(epoch >= 3);  // left out, and back
  for (int group = 0; group < 3; ++group) BOOST_TEST(rounds[group] > 0, "group " << group << " of epoch " << epoch);
}

/// Exit status of a shell command, and what it said.
std::pair<int, std::string> output_of(const std::string& command) {
  FILE* pipe = ::popen(command.c_str(), "r");
  BOOST_REQUIRE(pipe != nullptr);
  std::string said;
  for (char part[4096]; const auto n = std::fread(part, 1, sizeof part, pipe);) said.append(part, n);
  const int status = ::pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, said};
}

/// Waits until the run is well under way.
void under_way(const live_run& run, round_number rounds = 4) {
  const bool ok = run.until([&] { return run.committed() >= rounds; });
  BOOST_TEST_REQUIRE(ok, run.told());
}

/// Tells how long the others stood still: from the kill to the first round of each group that was closed without the killed site.
void tell_gap(const live_run& run, double killed, const std::string& site) {
  std::map<group_id, double> without, before;
  double usual = 0, all = 0;
  for (const auto& row : run.rounds()) {
    if (row.wall <= killed) {
      if (before.contains(row.group)) usual = std::max(usual, row.wall - before[row.group]);
      before[row.group] = row.wall;
    } else if (!contains(row.contributors, site) && !without.contains(row.group)) {
      without[row.group] = row.wall - killed;
      all = std::max(all, row.wall - killed);
    }
  }
  BOOST_TEST(without.size() == 3U);
  std::cout << fmt::format(
      "SIGKILL of one of three sites: {:.2f} s until every group had a round without it (the longest round before: "
      "{:.2f} s)\n",
      all, usual);
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(faults, scratch_folder)

BOOST_AUTO_TEST_CASE(a_site_killed_in_mid_round_returns_and_counts_again) {
  live_run run(path.string(), "one-killed", {"run.tokens=1_500_000"});
  under_way(run);
  run.signal("beta", SIGKILL);
  const double killed = wall_now();
  BOOST_TEST(run.until([&] { return run.has_event("restarted", "beta"); }), run.told());
  check_good_end(run);
  tell_gap(run, killed, "1");
  check_returned(run, 1);
  check_counts_again(run, 1);
}

BOOST_AUTO_TEST_CASE(a_site_stopped_for_ten_seconds_is_done_without_meanwhile) {
  live_run run(path.string(), "one-stopped", {"run.tokens=3_500_000"});
  under_way(run);
  const pid_t pid = run.pid_of("gamma");
  run.signal("gamma", SIGSTOP);
  const double stopped = wall_now();
  run.until([&] { return wall_now() > stopped + 2; });
  const auto before = run.committed();
  const bool went_on = run.until([&] { return wall_now() > stopped + 10 && run.committed() >= before + 2; });
  BOOST_TEST_REQUIRE(!run.over(), "the run was over before the site went on\n" << run.told());
  BOOST_TEST(went_on, "the others stood still at round " << before);
  BOOST_TEST(run.pid_of("gamma") == pid);
  run.signal("gamma", SIGCONT);
  check_good_end(run);
  BOOST_TEST(run.has_event("link_down", "gamma"));
  check_counts_again(run, 2);
}

BOOST_AUTO_TEST_CASE(a_run_that_finished_without_a_stopped_site_ends) {
  live_run run(path.string(), "left-behind", {"run.tokens=1_500_000"});
  under_way(run);
  run.signal("gamma", SIGSTOP);
  BOOST_TEST(run.wait(120) == 0, run.told());
  BOOST_TEST(run.has_event("given_up", "gamma: had not ended"));
  BOOST_TEST(json::parse(run.isthmus("status", {"--json"}).out).at("state") == "finished");
  BOOST_TEST(run.ledger().at("complete") == true);
}

BOOST_AUTO_TEST_CASE(everything_killed_goes_on_from_its_checkpoints) {
  live_run run(path.string(), "all-killed", {});
  under_way(run, 5);
  BOOST_TEST(run.until([&] { return run.has_checkpoint(0) && run.has_checkpoint(1) && run.has_checkpoint(2); }));
  BOOST_TEST_REQUIRE(!run.over());
  run.kill_all();
  const auto status = run.isthmus("status", {"--json"});
  BOOST_TEST(status.code == 7, status.err);
  const auto dead = json::parse(status.out);
  BOOST_TEST(dead.at("state") == "crashed");
  BOOST_TEST(dead.at("round") >= 5);
  for (const auto& site : dead.at("sites")) BOOST_TEST(site.at("state") != "training");
  const auto trained = dead.at("trained_seconds").get<double>();
  BOOST_TEST(trained > 0);
  BOOST_TEST(contains(run.isthmus("status").out, "isthmus resume"));
  BOOST_TEST(run.ledger().at("complete") == false);
  run.resume();
  check_good_end(run);
  BOOST_TEST(json::parse(run.isthmus("status", {"--json"}).out).at("trained_seconds") > trained);
}

BOOST_AUTO_TEST_CASE(a_stopped_run_says_so_and_resumes) {
  live_run run(path.string(), "asked-to-stop", {});
  under_way(run);
  run.signal("launcher", SIGTERM);
  const int code = run.wait();
  BOOST_TEST(code == 7, run.told());
  const auto status = run.isthmus("status", {"--json"});
  BOOST_TEST(status.code == 7);
  BOOST_TEST(json::parse(status.out).at("state") == "stopped");
  BOOST_TEST(run.ledger().at("outstanding") == 0);
  run.resume();
  check_good_end(run);
}

BOOST_AUTO_TEST_CASE(asked_twice_a_run_stops_at_once_and_goes_on_later) {
  live_run run(path.string(), "asked-twice", {"round.inner_steps=3000", "run.tokens=20_000_000"});  // a period of many seconds
  BOOST_TEST_REQUIRE(run.until([&] { return !run.samples().empty(); }), run.told());
  run.signal("launcher", SIGINT);
  BOOST_TEST_REQUIRE(run.until([&] { return contains(run.told(), "again to stop at once"); }), run.told());
  run.signal("launcher", SIGINT);
  BOOST_TEST(run.wait() == 130, run.told());
  BOOST_TEST(json::parse(run.isthmus("status", {"--json"}).out).at("state") == "stopped");
  BOOST_TEST(run.ledger().at("complete") == false);
  const double again = wall_now();
  run.resume();
  BOOST_TEST(run.until([&] {
    const auto rows = run.samples();
    return !rows.empty() && rows.back().wall > again;
  }),
             run.told());
}

// Needs a mount namespace: a ctest entry of its own names it, so that a machine without one shows there as skipped.
BOOST_AUTO_TEST_CASE(a_run_folder_on_a_full_disk_is_told, *boost::unit_test::disabled()) {
  // A small disk of its own, in a mount namespace that only this command sees; the shards are links elsewhere and copies here.
  const auto small = path / "small";
  std::filesystem::create_directories(small);
  const std::string command = "unshare --map-root-user --mount sh -c 'mount -t tmpfs -o size=256k none \"" + small.string() +
                              "\" || exit 99; ISTHMUS_RUNS=\"" + path.string() + "\" exec " + ISTHMUS_PROGRAM +
                              " launch tests/e2e/tiny.toml --run-folder \"" + (small / "run").string() + "\"' 2>&1";
  const auto [code, said] = output_of(command);
  if (code != 4) {
    BOOST_TEST_REQUIRE((code == 99 || contains(said, "unshare")), said);
    BOOST_WARN_MESSAGE(false, "SKIPPED, no mount namespace here: " << said);
    return;
  }
  BOOST_TEST(contains(said, "no space left on its disk"), said);
  BOOST_TEST(contains(said, "wanted"), said);
}

BOOST_AUTO_TEST_CASE(a_killed_coordinator_is_started_again) {
  live_run run(path.string(), "coordinator-killed", {});
  under_way(run);
  run.signal("coordinator", SIGKILL);
  BOOST_TEST(run.until([&] { return run.has_event("restarted", "coordinator"); }), run.told());
  check_good_end(run);
}

BOOST_AUTO_TEST_CASE(a_killed_launcher_takes_its_sites_along) {
  live_run run(path.string(), "launcher-killed", {});
  under_way(run);
  run.signal("launcher", SIGKILL);
  BOOST_TEST(run.wait() == 128 + SIGKILL);
  run.resume();  // at once: what is still ending is waited for
  check_good_end(run);
}

BOOST_AUTO_TEST_SUITE_END()
