#pragma once

#include "framework/core/clock.hpp"
#include "framework/recipe/fault_kinds.hpp"
#include "framework/recipe/recipe.hpp"
#include "framework/rounds/messages.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus::sim {

/// One fault of one run, nothing left to draw.
struct planned_fault {
  recipe::fault trigger;  // of the recipe, with one time that is not 0, named ends and an amount
  duration at{};          // after the start; when the trigger waits for a round or for tokens: 0
  fault_kind kind = fault_kind::kill;
  site_id site = 0;
  std::vector<site_id> peers;  // the other ends, of a fault of links
  duration lasts{};
  bool waits() const { return trigger.at_round > 0 || trigger.at_tokens > 0; }
};

/// The recipe's faults as they happen to the run of this seed: which of them it has, when, whom they hit and how long they last. The
/// same for the simulation and for real processes. Those with a time come in its order, behind those that wait for a round or tokens.
std::vector<planned_fault> plan_faults(const recipe& plan, std::uint64_t seed);

/// "12.5 s: kill of beta, back after 3 s".
std::string describe(const planned_fault& fault);

/// The recipe with exactly these faults and no drawing of settings: it replays the run of `seed`, whatever the recipe was before.
recipe with_faults(recipe plan, const std::vector<planned_fault>& faults, std::uint64_t seed);

/// Draws what a recipe with scenario.draw_settings leaves to the seed: codec and outer rule, groups, steps a round, quorum, windows,
/// heartbeats, checkpoints, devices.
recipe draw_settings(recipe plan, std::uint64_t seed);

}  // namespace isthmus::sim
