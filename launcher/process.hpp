#pragma once

#include "framework/core/expected.hpp"

#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace isthmus::launcher {

/// What the launcher sends its children when it heard SIGHUP.
int reopen_signal();

/// How a process ended.
struct process_end {
  int code = 0;  // exit status, -1 when a signal ended it
  int signal = 0;
  std::string text() const;  // "exit 7", "SIGKILL"
};

/// A child of ours: this binary again, in its own process group, so that a terminal's Ctrl-C reaches the launcher alone.
/// The destructor kills what still runs.
class process {
public:
  /// kept: descriptors that stay open in it under their numbers.
  static expected<process> start(const std::vector<std::string>& arguments, const std::string& log_path, const std::vector<int>& kept = {});
  process(process&& other) noexcept : pid_(other.pid_) { other.pid_ = -1; }
  process& operator=(process&& other) noexcept;
  ~process();

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  /// Not allowed: its writes to files fail, as on a full disk (EFBIG).
  void allow_files_to_grow(bool allowed) const;
  /// Its end when it has ended; asked again after that it gives nothing.
  std::optional<process_end> ended();

private:
  explicit process(pid_t pid) : pid_(pid) {}
  pid_t pid_ = -1;
};

}  // namespace isthmus::launcher
