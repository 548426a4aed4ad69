// Real processes under a fault each half minute, beside clean runs of the same recipe: `make soak`. Prints one JSON object; ends with 8
// when something that was promised was not kept.
#include "bench/rehearsal.hpp"
#include "framework/core/exit_code.hpp"
#include "framework/recipe/recipe.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <future>
#include <iostream>
#include <numeric>

using namespace isthmus;
using nlohmann::json;

namespace {

constexpr double goodput_min = 0.9;
constexpr double loss_margin = 0.03;  // nat
constexpr double memory_growth_max = 0.1;

struct options {
  double minutes = 30;
  int clean_runs = 3;
  std::string program = ISTHMUS_PROGRAM, recipe = "recipes/soak.toml";
};

double total_pace(const recipe& plan) {
  return std::accumulate(plan.sites.begin(), plan.sites.end(), 0.0, [](double sum, const auto& s) { return sum + s.tokens_per_second; });
}

using rehearsed = expected<json>;

/// Runs without faults, of the same seed, pace and tokens, at the same time: what differs is what faults did, and how threads and links
/// happened to go.
std::vector<std::future<rehearsed>> begin_clean_runs(const options& o, const std::string& tokens) {
  const auto time = fmt::format("scenario.heal_seconds={}", 120 * o.minutes + 600);
  std::vector<std::future<rehearsed>> runs;
  for (int run = 0; run < o.clean_runs; ++run)
    runs.push_back(std::async(std::launch::async, [&o, tokens, time, run] {
      return bench::rehearse(o.program, o.recipe,
                             {tokens, "scenario.fault_seconds=0", time, fmt::format("run.name=soak-clean-{}", run + 1)});
    }));
  return runs;
}

/// Their held-out losses.
expected<std::vector<double>> losses_of(std::vector<std::future<rehearsed>>& runs) {
  std::vector<double> losses;
  for (auto& run : runs) {
    const auto told = run.get();
    if (!told) return told.failure();
    if (!told->at("kept").get<bool>() || told->at("held_out_loss").is_null())
      return fail(errc::environment, "a clean run was not clean: " + told->dump());
    losses.push_back(told->at("held_out_loss").get<double>());
  }
  return losses;
}

std::vector<std::string> growth(const json& report) {
  std::vector<std::string> out;
  for (const auto& p : report.at("processes")) {
    const auto grown = [&](const char* what, double allowed) {
      const double begin = p.at("begin").at(what), end = p.at("end").at(what);
      if (end > begin * (1 + allowed))
        out.push_back(
            fmt::format("{} has {} {} at the end and had {} at the beginning", p.at("name").get<std::string>(), end, what, begin));
    };
    grown("resident_kib", memory_growth_max);
    grown("descriptors", 0);
    grown("threads", 0);
  }
  return out;
}

/// What people look for, in a few lines.
void tell(const json& answer, const std::vector<std::string>& broken) {
  const auto& soak = answer.at("soak");
  std::cerr << fmt::format("{} faults in {:.0f} s; {} tokens committed, {:.1f} % of capacity ({:.0f} % is promised)\n",
                           soak.at("faults").size(), soak.at("seconds").get<double>(), soak.at("committed_tokens").dump(),
                           100 * answer.at("goodput").get<double>(), 100 * goodput_min);
  for (const auto& p : soak.at("processes"))
    std::cerr << fmt::format("{}: resident {} -> {} KiB, descriptors {} -> {}, threads {} -> {}\n", p.at("name").get<std::string>(),
                             p.at("begin").at("resident_kib").dump(), p.at("end").at("resident_kib").dump(),
                             p.at("begin").at("descriptors").dump(), p.at("end").at("descriptors").dump(),
                             p.at("begin").at("threads").dump(), p.at("end").at("threads").dump());
  if (answer.contains("clean_losses"))
    std::cerr << fmt::format("held-out loss {}; clean runs of as many tokens {}; at most {:.4f} above their mean\n",
                             answer.at("loss").dump(), answer.at("clean_losses").dump(), answer.at("loss_margin").get<double>());
  for (const auto& b : broken) std::cerr << "BROKEN " << b << "\n";
}

/// The loss beside those of the clean runs, if there are any.
void compare_losses(std::vector<std::future<rehearsed>>& clean, json& answer, std::vector<std::string>& broken) {
  if (clean.empty()) return;
  const auto losses = losses_of(clean);
  if (!losses) return broken.push_back(losses.error().message);
  const auto [least, most] = std::minmax_element(losses->begin(), losses->end());
  const double mean = std::accumulate(losses->begin(), losses->end(), 0.0) / static_cast<double>(losses->size());
  const double margin = std::max(loss_margin, 2 * (*most - *least));
  const json loss = answer.at("soak").at("held_out_loss");
  answer.update({{"clean_losses", *losses}, {"loss_margin", margin}, {"loss", loss}});
  if (loss.is_null() || loss.get<double>() > mean + margin)
    broken.push_back(
        fmt::format("the held-out loss is {}, clean runs have {:.4f} and {:.4f} is allowed on top", loss.dump(), mean, margin));
}

int run(const options& o) {
  const auto plan = load_recipe(o.recipe);
  if (!plan) return std::cerr << plan.error().message << "\n", exit_recipe;
  const double seconds = 60 * o.minutes;
  const auto tokens = fmt::format("run.tokens={}", static_cast<std::int64_t>(total_pace(*plan) * seconds));
  auto clean = begin_clean_runs(o, tokens);
  const auto report = bench::rehearse(o.program, o.recipe, {tokens, fmt::format("scenario.fault_seconds={}", seconds)});
  if (!report) return std::cerr << report.error().message << "\n", exit_environment;
  std::vector<std::string> broken = report->at("broken");
  const double goodput = report->at("goodput");
  if (goodput < goodput_min)
    broken.push_back(fmt::format("{:.1f} % of capacity was committed, {:.0f} % is promised", 100 * goodput, 100 * goodput_min));
  const auto grown = growth(*report);
  broken.insert(broken.end(), grown.begin(), grown.end());
  json answer{{"schema", 1}, {"soak", *report}, {"goodput", goodput}};
  compare_losses(clean, answer, broken);
  answer["broken"] = broken;
  std::cout << answer.dump(2) << "\n";
  tell(answer, broken);
  return broken.empty() ? exit_ok : exit_violated;
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app("A soak test with real processes; beside it clean runs for the loss.");
  app.add_option("--minutes", o.minutes, "of the run with faults")->check(CLI::Range(0.5, 10'000.0))->capture_default_str();
  app.add_option("--clean-runs", o.clean_runs, "runs without faults, for the loss; 0: none")
      ->check(CLI::Range(0, 100))
      ->capture_default_str();
  app.add_option("--recipe", o.recipe, "every site with a pace")->capture_default_str();
  app.add_option("--program", o.program, "isthmus")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return run(o);
}
