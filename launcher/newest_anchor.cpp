#include "launcher/newest_anchor.hpp"

#include "actors/site_start.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace isthmus::launcher {

namespace {

/// How far a checkpoint is.
std::pair<round_number, step_number> reached(const checkpoint_facts& facts) {
  return {facts.groups.empty() ? round_number{0} : facts.groups.front().round, facts.step};
}

/// Of every site, the furthest by what the manifest of its newest checkpoint says first.
std::vector<std::pair<std::pair<round_number, step_number>, site_id>> furthest_first(const run_folder& run, storage& disk) {
  std::vector<std::pair<std::pair<round_number, step_number>, site_id>> out;
  for (site_id site = 0; site < run.plan.sites.size(); ++site) {
    const auto all = checkpoint_store(disk, actors::checkpoint_folder(site)).list();
    out.emplace_back(all.empty() ? std::pair<round_number, step_number>{} : reached(all.front().facts), site);
  }
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  return out;
}

/// The furthest checkpoint of all sites that verifies.
expected<anchor_of_run> furthest_anchor(const run_folder& run, storage& disk, const checkpoint_needs& needs) {
  std::optional<anchor_of_run> best;
  std::vector<std::string> warnings;
  errc first = errc::ok;
  for (const auto& [newest, site] : furthest_first(run, disk)) {
    if (best && newest <= reached(best->saved.facts)) break;
    auto saved = checkpoint_store(disk, actors::checkpoint_folder(site)).load(needs);
    if (!saved && saved.error().code == errc::not_found) continue;  // it has none
    if (!saved && saved.error().code == errc::wrong_recipe) return saved.failure();
    if (!saved) {
      first = first == errc::ok ? saved.error().code : first;
      warnings.push_back(saved.error().message);
      continue;
    }
    warnings.insert(warnings.end(), saved->warnings.begin(), saved->warnings.end());
    if (!best || reached(saved->facts) > reached(best->saved.facts)) best = anchor_of_run{site, std::move(*saved)};
  }
  if (best) {
    best->saved.warnings = std::move(warnings);
    return std::move(*best);
  }
  if (first != errc::ok) return fail(first, fmt::format("{}", fmt::join(warnings, "; ")));
  return fail(errc::not_found, fmt::format("{} has no checkpoint yet; one is written every {} rounds and at the end", run.path,
                                           run.plan.checkpoint.every_rounds));
}

}  // namespace

round_number anchor_of_run::round() const { return reached(saved.facts).first; }

expected<void> anchor_of_run::copy_to(hybrid_model& model) const {
  const auto weights = saved.part("model");
  if (!weights) return weights.failure();
  if (auto ok = (*weights)->copy_to(model.layout(), model.weights()); !ok) return ok.failure();
  model.weights_changed();
  return {};
}

expected<anchor_of_run> newest_anchor(const run_folder& run, storage& disk, std::optional<site_id> site) {
  checkpoint_needs needs;
  needs.recipe_hash = recipe_hash(run.plan);
  needs.parts = {"model"};
  if (!site) return furthest_anchor(run, disk, needs);
  auto saved = checkpoint_store(disk, actors::checkpoint_folder(*site)).load(needs);
  if (!saved) return saved.failure();
  return anchor_of_run{*site, std::move(*saved)};
}

}  // namespace isthmus::launcher
