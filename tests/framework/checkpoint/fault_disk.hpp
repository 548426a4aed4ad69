#pragma once

#include "framework/core/storage.hpp"

#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <string>

namespace isthmus::testing {

/// The power went out in the middle of an operation.
struct power_loss : std::exception {};

enum class fault_kind {
  fails,      // the operation reports io_failed and does nothing
  tears,      // it does half of its work, then reports disk_full
  cuts,       // it does half of its work, then the power goes out
  skips_sync  // it reports success; if it is a sync, it did nothing
};

/// A disk in memory with the promises of POSIX and no more: bytes are durable after the file's sync, names after their own folder's
/// sync. Every call that changes something is one numbered operation, and one of them can go wrong.
class fault_disk {
public:
  fault_disk();
  ~fault_disk();

  /// A fresh view, as a restarted process has it.
  std::unique_ptr<storage> open();
  /// The `at`-th operation from now on (0 is the next) goes wrong.
  void arm(std::uint64_t at, fault_kind kind);
  void disarm();
  /// Operations since the last arm() or disarm(), and whether the operation numbered `at` was a sync.
  std::uint64_t operations() const;
  bool fired_on_sync() const;
  /// The machine comes back: what was not synced is lost (luck 0), or survives in part, in an order and amount that luck draws.
  void crash(std::uint64_t luck);

private:
  struct state;
  class view;
  class appender;
  std::shared_ptr<state> state_;
};

}  // namespace isthmus::testing
