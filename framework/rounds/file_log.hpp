#pragma once

#include "framework/core/storage.hpp"
#include "framework/rounds/coordinator_log.hpp"

#include <string>
#include <vector>

namespace isthmus {

/// The coordinator's log as JSON Lines in a file. One writer: whoever opens it holds the run's lock file (the launcher's duty), and an
/// append compares with what the file holds. A torn last line is dropped (it was never answered).
class file_log final : public coordinator_log {
public:
  /// Reads what is there. Errors: malformed or checksum_mismatch before the last line, with file:line.
  static expected<file_log> open(storage& disk, std::string path);
  /// The entries that open() would find, without touching the file; none when it is not there. Errors as open().
  static expected<std::vector<coordinator_entry>> read(const storage& disk, const std::string& path);

private:
  file_log(storage& disk, std::string path) : disk_(&disk), path_(std::move(path)) {}
  expected<void> write(const coordinator_entry& entry) override;
  std::string place() const override { return path_; }

  storage* disk_;
  std::string path_;
  std::size_t bytes_ = 0;
};

}  // namespace isthmus
