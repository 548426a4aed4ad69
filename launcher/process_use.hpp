#pragma once

#include <cstdint>
#include <optional>
#include <sys/types.h>
#include <vector>

namespace isthmus::launcher {

/// What a process holds at a moment, as /proc tells it.
struct process_use {
  double wall = 0;
  std::int64_t resident_kib = 0, descriptors = 0, threads = 0;
};
/// Nothing when the process is gone.
std::optional<process_use> look_at_process(pid_t pid, double wall);

/// The median of each over what was seen from `from` to `to`; nothing when that is nothing.
std::optional<process_use> median_use(const std::vector<process_use>& seen, double from, double to);

}  // namespace isthmus::launcher
