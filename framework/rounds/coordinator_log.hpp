#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/storage.hpp"
#include "framework/rounds/messages.hpp"

#include <memory>
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

std::string to_line(const coordinator_entry& entry);
expected<coordinator_entry> parse_coordinator_line(const std::string& line, const std::string& where);

/// The append-only log that decides which epoch follows which: JSON Lines with a checksum each; docs/ledger.md. One writer: whoever
/// opens it holds the run's lock file (the launcher's duty), and append() compares with what the file holds. A torn last line is
/// dropped (it was never answered).
class coordinator_log {
public:
  /// Reads what is there. Errors: malformed or checksum_mismatch before the last line, with file:line.
  static expected<coordinator_log> open(storage& disk, std::string path);
  /// The entries that open() would find, without touching the file; none when it is not there. Errors as open().
  static expected<std::vector<coordinator_entry>> read(const storage& disk, const std::string& path);

  const std::vector<coordinator_entry>& entries() const { return entries_; }
  /// Compare-and-swap: entry.view.number must be the last number + 1 (or equal for an end entry), else stale_epoch. Synced on return.
  expected<void> append(const coordinator_entry& entry);

private:
  coordinator_log(storage& disk, std::string path) : disk_(&disk), path_(std::move(path)) {}
  storage* disk_;
  std::string path_;
  std::size_t bytes_ = 0;
  std::vector<coordinator_entry> entries_;
};

}  // namespace isthmus
