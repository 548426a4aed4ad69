#pragma once

#include "framework/rounds/ledger_check.hpp"
#include "launcher/conductor.hpp"
#include "launcher/run_folder.hpp"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace isthmus::launcher {

/// What followed a fault, in seconds. Nothing where it did not happen.
struct fault_outcome {
  played_fault played;
  std::optional<double> excluded;  // from its beginning until an epoch without the site was decided
  std::optional<double> commit;    // from its beginning until every group had a round more: without the site, where it was excluded
  std::optional<double> led;       // of the coordinator: from its beginning until every site had a link to one again
  std::optional<double> back;      // from its end until a round counted the site again, where it had been excluded
};

/// A process at the beginning of a run, before anything was done to it, and at its end.
struct process_growth {
  std::string name;
  process_use begin, end;
};

/// What came of a rehearsal with real processes.
struct rehearsal_report {
  std::vector<std::string> broken;  // promises that were not kept, in plain words
  double began = 0, ended = 0;      // wall: the first epoch, the last round
  std::uint64_t committed_tokens = 0;
  double capacity_tokens = 0;           // sum over the sites with a pace: pace x time not under a fault of theirs; 0 when one has none
  std::vector<double> hurt_seconds;     // of each site
  std::optional<double> held_out_loss;  // nats per token, of the last anchor, over all sites' held-out text
  std::vector<fault_outcome> faults;
  std::vector<process_growth> processes;
  ledger_report ledger;
  double goodput() const { return capacity_tokens > 0 ? static_cast<double>(committed_tokens) / capacity_tokens : 0; }
};

/// code, reason, lost: the conductor's, which has ended.
rehearsal_report report_rehearsal(const run_folder& run, const conductor& lead, int code);

std::string report_text(const rehearsal_report& report);
nlohmann::json report_json(const rehearsal_report& report);

}  // namespace isthmus::launcher
