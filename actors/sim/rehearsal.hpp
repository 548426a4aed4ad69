#pragma once

#include "framework/core/hash.hpp"
#include "framework/core/storage.hpp"
#include "framework/rounds/ledger_check.hpp"
#include "framework/sim/fault_plan.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace isthmus::actors {

/// What came of one seed of a scenario.
struct rehearsal_result {
  std::uint64_t seed = 0;
  std::string failure;                // empty: every promise was kept
  std::vector<std::string> findings;  // behind it: violations, sites that did not end
  hash128 history;                    // of all events
  double virtual_seconds = 0;
  std::map<std::string, std::uint64_t> faults;  // fired, by kind
  std::map<std::string, std::uint64_t> rare;    // rare sites that fired, and how often
  round_number rounds = 0;
  ledger_report ledger;
  bool good() const { return failure.empty(); }
};

/// Who wants to see more of a run than its result.
struct rehearsal_watcher {
  std::function<void(const std::string& line)> tell;  // hears what happens as it happens; may be empty
  storage* keep = nullptr;                            // gets the run's files at its end: ledgers, checkpoints
};

/// Plays the recipe in simulation: its faults for scenario.fault_seconds, then everything is healed and the run must end in time with
/// ledgers that balance and one anchor. Processes that end with an error are started again, as the launcher does, within a budget.
/// The recipe as it is: whoever wants drawn settings calls sim::draw_settings first. Throws std::runtime_error for a recipe that
/// cannot be played.
rehearsal_result rehearse(const recipe& plan, const std::vector<sim::planned_fault>& faults, std::uint64_t seed,
                          const rehearsal_watcher& watcher = {});

/// The same of what the scenario makes of this seed.
rehearsal_result rehearse(const recipe& plan, std::uint64_t seed, const rehearsal_watcher& watcher = {});

/// A shorter list of faults that still fails, found by leaving out halves, quarters and so on (Zeller & Hildebrandt 2002, ddmin).
/// `fails` is asked at most `tries` times.
std::vector<sim::planned_fault> shrink(std::vector<sim::planned_fault> faults,
                                       const std::function<bool(const std::vector<sim::planned_fault>&)>& fails, int tries = 100);

}  // namespace isthmus::actors
