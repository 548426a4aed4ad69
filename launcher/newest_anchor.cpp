#include "launcher/newest_anchor.hpp"

#include "actors/site_start.hpp"

#include <fmt/format.h>

#include <utility>

namespace isthmus::launcher {

namespace {

/// The site whose newest checkpoint is the furthest.
expected<site_id> furthest_site(const run_folder& run, storage& disk) {
  std::optional<site_id> best;
  std::pair<round_number, step_number> furthest;
  for (site_id site = 0; site < run.plan.sites.size(); ++site) {
    const auto all = checkpoint_store(disk, actors::checkpoint_folder(site)).list();
    if (all.empty()) continue;
    const auto& facts = all.front().facts;
    const std::pair reached{facts.groups.empty() ? round_number{0} : facts.groups.front().round, facts.step};
    if (!best || reached > furthest) {
      best = site;
      furthest = reached;
    }
  }
  if (!best)
    return fail(errc::not_found, fmt::format("{} has no checkpoint yet; one is written every {} rounds and at the end", run.path,
                                             run.plan.checkpoint.every_rounds));
  return *best;
}

}  // namespace

round_number anchor_of_run::round() const { return saved.facts.groups.empty() ? 0 : saved.facts.groups.front().round; }

expected<void> anchor_of_run::copy_to(hybrid_model& model) const {
  const auto weights = saved.part("model");
  if (!weights) return weights.failure();
  if (auto ok = (*weights)->copy_to(model.layout(), model.weights()); !ok) return ok.failure();
  model.weights_changed();
  return {};
}

expected<anchor_of_run> newest_anchor(const run_folder& run, storage& disk, std::optional<site_id> site) {
  const auto whose = site ? expected<site_id>(*site) : furthest_site(run, disk);
  if (!whose) return whose.failure();
  checkpoint_needs needs;
  needs.recipe_hash = recipe_hash(run.plan);
  needs.parts = {"model"};
  auto saved = checkpoint_store(disk, actors::checkpoint_folder(*whose)).load(needs);
  if (!saved) return saved.failure();
  return anchor_of_run{*whose, std::move(*saved)};
}

}  // namespace isthmus::launcher
