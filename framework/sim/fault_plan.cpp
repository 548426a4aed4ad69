#include "framework/sim/fault_plan.hpp"

#include "framework/core/error.hpp"
#include "framework/core/rng.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace isthmus::sim {

namespace {

constexpr std::uint64_t settings_stream = UINT64_MAX;  // of draws; faults use their place in the recipe

/// In whole milliseconds: what is written down is what happens.
double rounded(double seconds) { return std::round(seconds * 1000) / 1000; }
/// Exponential.
double draw_time(rng& draws, double mean) { return rounded(-std::log1p(-draws.uniform()) * mean); }

std::string name_of(const recipe& plan, site_id site) { return site == coordinator_id ? "coordinator" : plan.sites.at(site).name; }

/// A site by what a fault calls it; "any" is drawn, and is never `other`.
site_id end_of(const recipe& plan, const std::string& name, rng& draws, site_id other = coordinator_id) {
  if (name == "coordinator") return coordinator_id;
  if (name != "any") return *find_site(plan, name);
  for (;;) {
    const auto drawn = static_cast<site_id>(draws.below(plan.sites.size()));
    if (drawn != other || plan.sites.size() == 1) return drawn;
  }
}

std::vector<site_id> peers_of(const recipe& plan, const std::string& name, site_id site, rng& draws) {
  if (name != "all") return {end_of(plan, name, draws, site)};
  std::vector<site_id> all;
  for (site_id other = 0; other < plan.sites.size(); ++other)
    if (other != site) all.push_back(other);
  if (site != coordinator_id) all.push_back(coordinator_id);
  return all;
}

planned_fault place(const recipe& plan, const recipe::fault& f, double at, double lasts, rng& draws) {
  planned_fault p;
  p.kind = kind_of_fault(f.kind);
  p.site = end_of(plan, f.site, draws);
  if (is_of_links(p.kind)) p.peers = peers_of(plan, f.peer, p.site, draws);
  p.at = from_seconds(at);
  p.lasts = is_instant(p.kind) ? duration{} : from_seconds(lasts);
  p.trigger = f;
  p.trigger.every_seconds = p.trigger.again_after_seconds = 0;
  p.trigger.at_seconds = at;
  p.trigger.chance = 1;
  p.trigger.site = name_of(plan, p.site);
  if (is_of_links(p.kind) && f.peer != "all") p.trigger.peer = name_of(plan, p.peers.front());
  p.trigger.back_after_seconds = lasts;
  if (f.amount == 0) p.trigger.amount = default_amount(p.kind);
  return p;
}

template <class T>
T one_of(rng& draws, std::initializer_list<T> choices) {
  return choices.begin()[static_cast<std::ptrdiff_t>(draws.below(choices.size()))];
}

}  // namespace

std::vector<planned_fault> plan_faults(const recipe& plan, std::uint64_t seed) {
  std::vector<planned_fault> out;
  for (std::size_t i = 0; i < plan.faults.size(); ++i) {
    const recipe::fault& f = plan.faults[i];
    rng draws(seed, i, 0, draw::fault);
    if (draws.uniform() >= f.chance) continue;
    if (f.every_seconds == 0) {
      out.push_back(place(plan, f, f.at_seconds, f.back_after_seconds, draws));
      if (f.again_after_seconds == 0) continue;
      for (int n = 1;; ++n) {
        const double at = rounded(f.at_seconds + n * f.again_after_seconds);
        if (at >= plan.scenario.fault_seconds) break;
        out.push_back(place(plan, f, at, f.back_after_seconds, draws));
      }
      continue;
    }
    for (double at = draw_time(draws, f.every_seconds); at < plan.scenario.fault_seconds; at += 0.001 + draw_time(draws, f.every_seconds))
      out.push_back(place(plan, f, rounded(std::max(at, 0.001)), draw_time(draws, f.back_after_seconds), draws));
  }
  std::stable_sort(out.begin(), out.end(), [](const planned_fault& a, const planned_fault& b) { return a.at < b.at; });
  return out;
}

std::string describe(const planned_fault& fault) {
  const auto& t = fault.trigger;
  auto text = t.at_round > 0    ? fmt::format("round {}: ", t.at_round)
              : t.at_tokens > 0 ? fmt::format("{} tokens: ", t.at_tokens)
                                : fmt::format("{} s: ", t.at_seconds);
  text += fmt::format("{} of {}", t.kind, t.site);
  if (is_of_links(fault.kind)) text += fmt::format(" and {}", t.peer);
  if (t.amount > 0) text += fmt::format(", {}", t.amount);
  if (!is_instant(fault.kind)) text += fmt::format(", for {} s", t.back_after_seconds);
  return text;
}

recipe with_faults(recipe plan, const std::vector<planned_fault>& faults, std::uint64_t seed) {
  plan.run.seed = static_cast<std::int64_t>(seed);
  plan.scenario.draw_settings = false;
  plan.faults.clear();
  for (const auto& fault : faults) plan.faults.push_back(fault.trigger);
  return plan;
}

recipe draw_settings(recipe plan, std::uint64_t seed) {
  rng draws(seed, settings_stream, 0, draw::fault);
  auto& r = plan.round;
  r.codec = one_of<const char*>(draws, {"none", "int8", "sparse_loco"});
  r.warm_up_rounds = r.codec == "sparse_loco" ? one_of<std::int64_t>(draws, {0, 3}) : 0;
  r.outer = one_of<const char*>(draws, {"nesterov", "plain"});
  r.inner_steps = one_of<std::int64_t>(draws, {1, 2, 4, 8});
  r.groups = one_of<std::int64_t>(draws, {1, 2, 3, 5});
  r.quorum = one_of<std::int64_t>(draws, {0, 0, 1, static_cast<std::int64_t>(plan.sites.size())});
  r.grace_seconds = one_of(draws, {0.0, 0.1, 1.0});
  r.deadline_min_seconds = one_of(draws, {0.2, 1.0});
  r.deadline_max_seconds = one_of(draws, {2.0, 10.0});
  plan.links.heartbeat_ms = one_of<std::int64_t>(draws, {100, 250});
  plan.links.dead_after_ms = one_of<std::int64_t>(draws, {800, 2000});
  plan.checkpoint.every_rounds = one_of<std::int64_t>(draws, {1, 3, 10});
  if (plan.scenario.arithmetic == "grid" && draws.below(100) == 0) plan.scenario.arithmetic = "model";
  if (r.aggregate != "mean") {  // a recipe that guards: another way each time
    const bool sparse = r.codec == "sparse_loco";
    r.aggregate = one_of<const char*>(draws, {"mean", "clip_to_median", "centred_clipping", sparse ? "mean" : "trimmed_mean"});
    plan.guard.norm_veto = one_of(draws, {0.0, 4.0});
    plan.guard.similarity_veto = one_of(draws, {0.0, 0.98});
    plan.guard.weight_cap = one_of(draws, {0.0, 1.5});
    plan.guard.probation_rounds = one_of<std::int64_t>(draws, {0, 3});
    plan.guard.barred_after = one_of<std::int64_t>(draws, {0, 2});
    plan.guard.barred_rounds = one_of<std::int64_t>(draws, {2, 5});
  }
  for (auto& site : plan.sites) site.devices = std::min(one_of<std::int64_t>(draws, {1, 1, 2}), rows_per_step(plan));
  return plan;
}

}  // namespace isthmus::sim
