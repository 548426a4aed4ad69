#pragma once

#include "actors/site.hpp"
#include "actors/site_start.hpp"

#include <functional>
#include <memory>
#include <string>

namespace isthmus::actors {

/// Turns what the other actors measure into rows of the run store, and flushes them twice a second. What it cannot write costs rows only.
caf::actor spawn_metrics(caf::event_based_actor* owner, std::shared_ptr<const site_parts> parts);

/// Writes copies of the site to its checkpoint store, off the training's path (a thread of its own for real), and tells the owner
/// checkpoint_written. A failed save leaves the older ones as they were. Numbers rise above last_checkpoint's, the last one that the ledger
/// names. write_ledger makes its line durable: what a crash leaves on the disk, the ledger knows.
caf::actor spawn_checkpoint(caf::event_based_actor* owner, std::shared_ptr<const site_parts> parts, const std::string& last_checkpoint,
                            std::function<void(const std::string& line)> write_ledger);

}  // namespace isthmus::actors
