#include "launcher/seed_workers.hpp"

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <csignal>
#include <map>
#include <string>
#include <thread>

using namespace isthmus::launcher;

BOOST_AUTO_TEST_SUITE(seed_workers_test)

namespace {

/// How each of four seeds ends: at once, by spinning for ever, after a sleep, by a crash.
std::map<std::uint64_t, seed_report> run(double seconds_max, double wall_seconds_max, std::chrono::milliseconds sleep) {
  std::map<std::uint64_t, seed_report> reports;
  seed_work work;
  work.seconds_max = seconds_max;
  work.wall_seconds_max = wall_seconds_max;
  work.last = 4;
  work.processes = 2;
  work.work = [sleep](std::uint64_t seed) {
    volatile std::uint64_t turns = 0;
    while (seed == 2) turns = turns + 1;
    if (seed == 3) std::this_thread::sleep_for(sleep);
    if (seed == 4) ::raise(SIGKILL);
    return std::to_string(seed);
  };
  work.report = [&](const seed_report& r) { reports.emplace(r.seed, r); };
  run_seeds(work);
  return reports;
}

}  // namespace

BOOST_AUTO_TEST_CASE(each_seed_is_told_of_however_it_ends) {
  const auto reports = run(0.3, 600, std::chrono::milliseconds(700));
  BOOST_REQUIRE(reports.size() == 4U);
  BOOST_TEST(reports.at(1).answer == "1");
  BOOST_TEST(reports.at(2).died == "no end within 0.3 s of CPU time");
  BOOST_TEST(reports.at(3).answer == "3");  // longer than the limit, but waiting: a busy machine harms no seed
  BOOST_TEST(reports.at(4).died.find("SIGKILL") != std::string::npos, reports.at(4).died);
}

BOOST_AUTO_TEST_CASE(one_that_waits_for_ever_is_ended_too) {
  const auto reports = run(0.2, 1, std::chrono::hours(1));
  BOOST_TEST(reports.at(3).died == "no end within 1 s of wall time");
}

BOOST_AUTO_TEST_SUITE_END()
