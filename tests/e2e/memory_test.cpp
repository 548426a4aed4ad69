// What a dry run foretells of a site's memory, beside what the site's process takes.
#include "tests/e2e/live_run.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

using namespace isthmus;
using namespace isthmus::tests;

namespace {

/// "alpha   456 MiB at its peak: ...", in MiB.
double foretold(const std::string& text) {
  std::istringstream line(text.substr(text.find("\nalpha ") + 7));
  double number = 0;
  std::string unit;
  line >> number >> unit;
  BOOST_TEST_REQUIRE((unit == "MiB" || unit == "GiB"), text);
  return unit == "GiB" ? number * 1024 : number;
}

/// The most that the process had in memory so far, in MiB; 0 when it is gone.
double most_resident(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  return 0;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(memory, scratch_folder)

#ifndef __SANITIZE_ADDRESS__  // it keeps what is freed, and takes memory of its own
BOOST_AUTO_TEST_CASE(a_dry_run_foretells_what_a_site_takes_to_a_tenth) {
  const auto recipe = one_site_recipe((path / "alone.toml").string());
  const std::vector<std::string> size{"model.n_layers=6",         "model.d_model=256",         "model.n_heads=4",     "model.n_kv_heads=4",
                                      "model.head_dim=64",        "model.ffn_hidden=768",      "model.ssm_inner=512", "train.context=128",
                                      "train.warm_up_tokens=0",   "train.tokens_per_step=512", "round.inner_steps=1", "run.tokens=2048",
                                      "checkpoint.every_rounds=2"};
  const std::vector<std::vector<std::string>> kinds{
      {"round.codec=none", "round.outer=plain"},
      {"round.codec=int8", "round.outer=nesterov", "model.precision=bf16", "sites.0.threads_per_device=2"},
  };
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    auto overrides = size;
    overrides.insert(overrides.end(), kinds[i].begin(), kinds[i].end());
    auto dry = overrides;
    dry.insert(dry.begin(), {"launch", recipe, "--dry-run"});
    const auto told = run_isthmus(dry);
    BOOST_TEST_REQUIRE(told.code == 0, told.err);
    live_run run(path.string(), "run-" + std::to_string(i), overrides, recipe);
    double most = 0;
    run.until([&] { return most = std::max(most, most_resident(run.pid_of("alpha"))), false; });
    BOOST_TEST(run.wait() == 0, run.told());
    BOOST_TEST_CONTEXT(kinds[i].front() << ": foretold " << told.out << "taken " << most << " MiB") {
      BOOST_TEST(most > 200);
      BOOST_TEST(foretold(told.out) > 0.9 * most);
      BOOST_TEST(foretold(told.out) < 1.1 * most);
    }
  }
}
#endif

BOOST_AUTO_TEST_SUITE_END()
