#pragma once

#include "launcher/console.hpp"
#include "launcher/run_folder.hpp"

namespace isthmus::launcher {

/// Prepares every site's token shard and the shared tokenizer, or finds them made already in the cache below runs_root(), and puts
/// them into the run's data/ folder; fills the roster's sites but for their addresses.
expected<void> prepare_run_data(run_folder& run, console& out);

}  // namespace isthmus::launcher
