#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace isthmus::launcher {

/// What became of one seed in a worker.
struct seed_report {
  std::uint64_t seed = 0;
  std::string died;    // empty, or how the worker ended in the midst of it: "SIGSEGV", "no end within 120 s"
  std::string answer;  // of the work, else
};

struct seed_work {
  std::uint64_t first = 1, last = 1;  // both count
  int processes = 1;
  double seconds_max = 120;                             // of CPU time, for one seed: a machine may have other things to do
  double wall_seconds_max = 3600;                       // of wall time: for one that waits and never ends
  std::function<std::string(std::uint64_t seed)> work;  // in a process of its own
  std::function<void(const seed_report&)> report;       // in this one, in the order in which seeds end
  std::function<bool()> stopped;                        // asked ten times a second: an end that was asked for
};

/// Spreads seeds over processes that are forked from this one, so that a crash or a hang costs one seed. The caller has no threads.
/// Throws std::system_error when a process cannot be made.
void run_seeds(const seed_work& w);

}  // namespace isthmus::launcher
