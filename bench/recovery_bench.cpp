// How long real processes take to go on after a fault: each case is one run of recipes/soak.toml in network namespaces, with one fault.
#include "bench/rehearsal.hpp"
#include "bench/report.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/recipe/recipe.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <iostream>
#include <string_view>

using namespace isthmus;
using nlohmann::json;

namespace {

constexpr double link_rate = 200'000;  // bytes a second, of the cases with narrow links

/// One fault, and what of its outcome is asked.
struct recovery_case {
  const char *name, *measure;  // of the report's fault
  std::vector<std::string> fault;
  bool narrow;  // links of link_rate, so that data are in flight nearly all the time
  double limit_seconds;
  const char* limit;
};

std::vector<recovery_case> cases(double round_seconds, double state_seconds) {
  return {
      {"black hole with data in flight: excluded",
       "excluded_seconds",
       {"kind=\"cut\"", "peer=\"all\"", "back_after_seconds=10"},
       true,
       5,
       "5 s"},
      {"stopped site: excluded", "excluded_seconds", {"kind=\"stop\"", "back_after_seconds=10"}, false, 5, "5 s"},
      {"killed site: every group commits without it",
       "commit_seconds",
       {"kind=\"kill\"", "back_after_seconds=10"},
       false,
       5 + round_seconds,
       "5 s + one round"},
      {"killed coordinator: a new one leads",
       "led_seconds",
       {"kind=\"kill\"", "site=\"coordinator\"", "back_after_seconds=0.5"},
       false,
       10,
       "10 s"},
      {"killed site back over narrow links: counts again",
       "back_seconds",
       {"kind=\"kill\"", "back_after_seconds=4"},
       true,
       10 + state_seconds,
       "state size / link rate + 10 s"},
  };
}

std::vector<std::string> overrides_of(const recovery_case& c) {
  std::vector<std::string> out{"run.tokens=300_000", "scenario.fault_seconds=45", "faults.0.site=\"b\"", "faults.0.at_seconds=15",
                               "faults.0.again_after_seconds=0"};
  for (const auto& f : c.fault) out.push_back("faults.0." + f);
  // The next fault of the recipe narrows the links; those behind it lie behind the fault phase.
  if (c.narrow)
    for (const char* f : {"kind=\"rate\"", "site=\"b\"", "at_seconds=8", "back_after_seconds=40"})
      out.push_back(fmt::format("faults.1.{}", f));
  if (c.narrow) out.push_back(fmt::format("faults.1.amount={}", link_rate));
  return out;
}

/// only: part of the names of the cases to be played; empty: all of them.
int measure(const std::string& program, const std::string& recipe_file, const std::string& only) {
  const auto plan = load_recipe(recipe_file);
  if (!plan) return std::cerr << plan.error().message << "\n", 1;
  const auto round_seconds =
      static_cast<double>(plan->round.inner_steps * plan->train.tokens_per_step) / plan->sites.front().tokens_per_second;
  const auto parameters = hybrid_layout(plan->model).parameter_count();
  const double state_bytes = static_cast<double>(parameters) * 4 * 2;  // anchor and outer momentum
  bench::print_machine();
  bench::print_note(
      fmt::format("Real processes in network namespaces joined by a TUN relay; {} sites of {} parameters, rounds of {:.1f} s, a peer is "
                  "taken for dead after {} ms of silence; state {:.2f} MB, narrow links {:.1f} MB/s",
                  plan->sites.size(), parameters, round_seconds, plan->links.dead_after_ms, state_bytes / 1e6, link_rate / 1e6));
  bool kept = true;
  for (const auto& c : cases(round_seconds, state_bytes / link_rate)) {
    if (std::string_view(c.name).find(only) == std::string_view::npos) continue;
    const auto report = bench::rehearse(program, recipe_file, overrides_of(c));
    if (!report) return std::cerr << report.error().message << "\n", 1;
    if (!report->at("kept").get<bool>()) return std::cerr << c.name << ": " << report->at("broken").dump() << "\n", 1;
    for (const auto& fault : report->at("faults")) {
      if (fault.at("kind") == "rate") continue;
      if (fault.at(c.measure).is_null()) return std::cerr << c.name << ": it did not happen\n", 1;
      bench::figure f;
      f.name = c.name;
      f.unit = "s";
      f.value = fault.at(c.measure);
      f.less_is_better = true;
      f.limit = c.limit;
      f.share = f.value / c.limit_seconds;
      bench::print(f);
      kept = kept && f.value <= c.limit_seconds;
    }
  }
  return kept ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::string program = ISTHMUS_PROGRAM, recipe_file = "recipes/soak.toml", only;
  CLI::App app("Times to recover from faults, with real processes.");
  app.add_option("--program", program, "isthmus")->capture_default_str();
  app.add_option("--recipe", recipe_file, "with paces")->capture_default_str();
  app.add_option("--only", only, "cases with this in their name; none: all");
  CLI11_PARSE(app, argc, argv);
  return measure(program, recipe_file, only);
}
