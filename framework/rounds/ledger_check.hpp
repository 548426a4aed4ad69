#pragma once

#include "framework/core/storage.hpp"
#include "framework/rounds/messages.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace isthmus {

struct ledger_violation {
  std::string where;  // "ledger/site-1.jsonl:17"
  std::string rule;   // stable name, docs/ledger.md
  std::string what;   // plain words
};

/// What homes found who trained a site's contributions again, in rounds that count.
struct audit_tally {
  std::uint64_t failed = 0;
  std::vector<double> cosines;  // of all, ascending
};

/// What the ledgers prove. Positions are samples; a position granted again after a return counts again in assigned and returned.
struct ledger_report {
  std::uint64_t assigned = 0, committed = 0, partial = 0, returned = 0, written_off = 0, outstanding = 0;  // positions, over all sites
  std::uint64_t epochs = 0, rounds = 0, records_void = 0, checkpoints = 0, torn_lines = 0, lines = 0;
  std::uint64_t vetoes = 0;                          // contributions that were no finite numbers and reached nobody
  std::uint64_t divergences = 0;                     // anchors that were not what their record names, each copied from a peer again
  std::uint64_t vetoed = 0, clipped = 0;             // contributions in rounds that count, of which a home took nothing, or not all
  std::uint64_t lost_logs = 0, unproved_rounds = 0;  // processes whose ledger is gone with its disk; rounds that only such ledgers held
  std::map<site_id, audit_tally> audits;
  std::uint64_t audits_made() const;
  std::uint64_t audits_failed() const;
  std::map<group_id, round_number> last_round;
  std::map<group_id, hash128> last_anchor;
  bool complete = false;                     // every site ended cleanly: nothing may be outstanding
  std::vector<ledger_violation> violations;  // in file and line order, at most 1000
  bool balanced() const { return violations.empty(); }
};

/// Reads coordinator.jsonl and ledger/site-*.jsonl below `run` and proves or refutes the promises of docs/rounds.md, from logs alone.
/// Missing files of sites are no error: what they would say is proved from the others. Errors: not_found when there is no log at all, or
/// none of the coordinator where there are rounds.
expected<ledger_report> check_ledgers(const storage& run);
/// The same while the run goes on. Logs are read one after the other, so a line read early may tell of one that another log had only
/// later: a violation counts when a second look finds it again.
expected<ledger_report> check_growing_ledgers(const storage& run);

}  // namespace isthmus
