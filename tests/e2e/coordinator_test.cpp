// The coordinator is killed and stopped, with its log in the run's folder and in a real etcd: another one leads, and the run ends well.
#include "tests/e2e/live_run.hpp"
#include "tests/etcd/cluster.hpp"

#include <boost/test/unit_test.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <csignal>
#include <iostream>
#include <set>

using namespace isthmus;
using namespace isthmus::tests;
using isthmus::testing::etcd_cluster;

namespace {

std::vector<std::string> with_etcd(const etcd_cluster& etcd, int processes, const std::string& tokens) {
  std::string urls;
  for (const auto& url : etcd.urls()) urls += (urls.empty() ? "\"" : ", \"") + url + "\"";
  return {"coordinator.log=\"etcd\"", "coordinator.etcd=[" + urls + "]", "coordinator.processes=" + std::to_string(processes),
          "run.tokens=" + tokens};
}

void check_good_end(live_run& run) {
  BOOST_TEST(run.wait() == 0, run.told());
  const auto report = run.ledger();
  BOOST_TEST(report.at("balanced") == true, report.dump(1));
  BOOST_TEST(report.at("complete") == true);
}

/// The process that said last that it leads.
std::string leader_of(const live_run& run) {
  std::string name;
  for (const auto& e : run.events())
    if (e.kind == "leads") name = e.who;
  BOOST_REQUIRE_MESSAGE(!name.empty(), run.told());
  return name;
}

/// Seconds from then until somebody leads, and until every site is linked with it; negative while that is not so.
std::pair<double, double> time_to_lead(const live_run& run, double since) {
  double leads = -1, linked = -1;
  std::set<std::string> sites;
  for (const auto& e : run.events()) {
    if (e.wall < since) continue;
    if (e.kind == "leads" && leads < 0) leads = e.wall - since;
    if (e.kind == "link_up" && contains(e.text, "the coordinator") && leads >= 0) {
      sites.insert(e.who);
      if (sites.size() == 3 && linked < 0) linked = e.wall - since;
    }
  }
  return {leads, linked};
}

void await_lead(const live_run& run, double since, const std::string& what) {
  BOOST_TEST_REQUIRE(run.until([&] { return time_to_lead(run, since).second >= 0; }, 60), run.told());
  const auto [leads, linked] = time_to_lead(run, since);
  std::cout << fmt::format("{}: another leads after {:.2f} s, every site is linked with it after {:.2f} s\n", what, leads, linked);
}

/// That who leads now decides: a site that is killed is left out, and comes back.
void check_that_it_decides(const live_run& run) {
  const auto decisions = [&] { return run.count_events("decision", " of sites "); };
  const auto before = decisions();
  run.signal("beta", SIGKILL);
  const bool decided = run.until([&] { return decisions() > before; }, 60);
  BOOST_TEST(decided, run.told());
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(coordinators, scratch_folder)

BOOST_AUTO_TEST_CASE(with_its_log_in_a_file_it_is_started_again) {
  live_run run(path.string(), "file", {"run.tokens=3_500_000"});
  BOOST_TEST_REQUIRE(run.under_way(), run.told());
  run.signal("coordinator", SIGKILL);
  await_lead(run, wall_now(), "coordinator killed, log in a file");
  check_that_it_decides(run);
  check_good_end(run);
}

BOOST_AUTO_TEST_CASE(with_its_log_in_etcd_one_that_stands_by_leads) {
  const etcd_cluster etcd(1);
  live_run run(path.string(), "etcd", with_etcd(etcd, 2, "4_000_000"));
  BOOST_TEST_REQUIRE(run.under_way(), run.told());
  const auto before = run.committed();
  run.signal(leader_of(run), SIGKILL);
  await_lead(run, wall_now(), "coordinator killed, log in etcd");  // the launcher has started the first again: either may lead
  BOOST_TEST(run.committed() > before);                            // rounds went on
  check_that_it_decides(run);
  check_good_end(run);
}

BOOST_AUTO_TEST_CASE(one_that_was_stopped_for_long_wakes_up_fenced) {
  const etcd_cluster etcd(1);
  live_run run(path.string(), "paused", with_etcd(etcd, 2, "5_000_000"));
  BOOST_TEST_REQUIRE(run.under_way(), run.told());
  const auto first = leader_of(run);
  run.signal(first, SIGSTOP);
  await_lead(run, wall_now(), "coordinator stopped, log in etcd");
  BOOST_TEST(leader_of(run) != first);
  run.signal(first, SIGCONT);
  BOOST_TEST(run.until([&] { return run.has_event("fenced", "another coordinator has taken over"); }, 30), run.told());
  check_that_it_decides(run);
  check_good_end(run);
}

BOOST_AUTO_TEST_CASE(one_of_three_members_of_etcd_is_killed_in_mid_run) {
  etcd_cluster etcd(3);
  live_run run(path.string(), "three", with_etcd(etcd, 1, "4_000_000"));
  BOOST_TEST_REQUIRE(run.under_way(), run.told());
  etcd.kill(etcd.leader());
  check_that_it_decides(run);
  check_good_end(run);
}

BOOST_AUTO_TEST_CASE(the_coordinator_and_the_leader_of_three_members_of_etcd_are_killed_at_once) {
  etcd_cluster etcd(3);
  live_run run(path.string(), "both", with_etcd(etcd, 2, "4_000_000"));
  BOOST_TEST_REQUIRE(run.under_way(), run.told());
  etcd.kill(etcd.leader());
  run.signal(leader_of(run), SIGKILL);
  await_lead(run, wall_now(), "coordinator and the leader of three members of etcd killed");
  check_that_it_decides(run);
  check_good_end(run);
}

BOOST_AUTO_TEST_CASE(without_etcd_rounds_go_on_and_membership_waits) {
  etcd_cluster etcd(1);
  live_run run(path.string(), "gone", with_etcd(etcd, 1, "6_000_000"));
  BOOST_TEST_REQUIRE(run.under_way(), run.told());
  etcd.kill(0);
  BOOST_TEST(run.until([&] { return run.has_event("fenced", "membership waits while rounds go on"); }, 60), run.told());
  BOOST_TEST(run.until([&] { return run.has_event("waits", "etcd cannot be reached"); }, 60), run.told());
  const auto before = run.committed();
  BOOST_TEST(run.until([&] { return run.committed() >= before + 3; }, 60), run.told());
  BOOST_TEST_REQUIRE(!run.over(), run.told());
  etcd.start(0);
  check_good_end(run);
}

BOOST_AUTO_TEST_CASE(an_etcd_that_is_not_there_is_told_before_anything_begins) {
  surroundings where;
  where.environment = {"ISTHMUS_RUNS=" + path.string()};
  const auto o =
      run_isthmus({"launch", "tests/e2e/tiny.toml", "coordinator.log=\"etcd\"", "coordinator.etcd=[\"http://127.0.0.1:1\"]"}, where);
  BOOST_TEST(o.code == 4);
  BOOST_TEST(contains(o.err, "http://127.0.0.1:1: Connection refused"), o.err);
  BOOST_TEST(contains(o.err, "start it, or use coordinator.log"), o.err);
  const auto far =
      run_isthmus({"launch", "tests/e2e/tiny.toml", "coordinator.log=\"etcd\"", "coordinator.etcd=[\"http://8.8.8.8:2379\"]"}, where);
  BOOST_TEST(far.code == 4);
  BOOST_TEST(contains(far.err, "8.8.8.8"), far.err);
}

BOOST_AUTO_TEST_SUITE_END()
