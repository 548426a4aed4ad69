#pragma once

#include "framework/core/expected.hpp"
#include "framework/rounds/messages.hpp"

#include <string>
#include <vector>

namespace isthmus {

/// One entry of the coordinator's log: an epoch, or the end of the run.
struct coordinator_entry {
  epoch_view view;
  std::vector<site_id> sealed;      // members of the epoch before that sealed it
  std::vector<epoch_member> ended;  // members of the epoch before that came back as a higher incarnation (that one stands here)
  bool restart = false;             // fewer than ceil(n/2) sealed: every member was accounted for, and rounds above the cuts are gone
  bool end = false;                 // the run is finished; view is the last one
  bool operator==(const coordinator_entry&) const = default;
};

/// A line of JSON with its checksum and newline; docs/ledger.md.
std::string to_line(const coordinator_entry& entry);
expected<coordinator_entry> parse_coordinator_line(const std::string& line, const std::string& where);

/// The append-only log that decides which epoch follows which: a file (file_log.hpp), or etcd (framework/transport/etcd_log.hpp). One
/// writer: an entry that another coordinator's got in before is never written.
class coordinator_log {
public:
  virtual ~coordinator_log() = default;

  /// What it held when it was opened, and what was appended since.
  const std::vector<coordinator_entry>& entries() const { return entries_; }
  /// Compare-and-swap: entry.view.number must be the last number + 1 (or equal for an end entry), and nobody else may have written or
  /// have taken over, else stale_epoch. Durable on return. May block: not for an actor that others wait for.
  expected<void> append(const coordinator_entry& entry);

protected:
  coordinator_log() = default;
  coordinator_log(const coordinator_log&) = default;
  coordinator_log(coordinator_log&&) = default;
  coordinator_log& operator=(coordinator_log&&) = default;

  virtual expected<void> write(const coordinator_entry& entry) = 0;
  virtual std::string place() const = 0;  // for messages
  std::vector<coordinator_entry> entries_;
};

}  // namespace isthmus
