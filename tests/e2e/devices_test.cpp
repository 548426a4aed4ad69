// One site, two devices with a thread each: one of them fails while both compute, and nothing is lost.
#include "tests/e2e/live_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

using namespace isthmus;
using namespace isthmus::tests;

BOOST_FIXTURE_TEST_SUITE(devices, scratch_folder)

BOOST_AUTO_TEST_CASE(a_device_that_fails_is_done_without_and_comes_back) {
  std::string faults;
  for (const char* round : {"2", "2", "4", "6"})  // two at once are played one behind the other
    faults += std::string("[[faults]]\nat_round = ") + round + "\nkind = \"device\"\nsite = \"alpha\"\n";
  const auto recipe = one_site_recipe((path / "two-devices.toml").string(), faults);
  live_run run(path.string(), "two-devices", {"sites.0.devices=2", "train.tokens_per_step=2048", "run.tokens=700_000"}, recipe);
  BOOST_TEST(run.wait() == 0, run.told());
  const auto report = run.ledger();
  BOOST_TEST(report.at("balanced") == true, report.dump(1));
  BOOST_TEST(report.at("complete") == true);
  BOOST_TEST(report.at("outstanding") == 0);
  const auto events = run.events();
  const auto count = [&](const std::string& kind, const std::string& words) {
    return std::ranges::count_if(events, [&](const event_row& e) { return e.kind == kind && contains(e.text, words); });
  };
  BOOST_TEST(count("fault", "device of alpha") == 4);
  const auto site_restarts = count("restarted", "alpha");  // a device that fails inside an update takes its site along
  BOOST_TEST(count("crash", "device 1 failed") + site_restarts >= 4, run.told());
  if (site_restarts == 0) BOOST_TEST(report.at("returned") == 0);
  const auto samples = run.samples();
  BOOST_TEST_REQUIRE(samples.size() >= 200U);
  for (const auto& s : samples) BOOST_TEST_REQUIRE(std::isfinite(s.loss));
  BOOST_TEST(samples.back().loss < samples.front().loss - 0.5);
}

BOOST_AUTO_TEST_SUITE_END()
