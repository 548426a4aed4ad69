#pragma once

#include "framework/data/prepare.hpp"
#include "launcher/console.hpp"
#include "launcher/run_folder.hpp"

namespace isthmus::launcher {

/// Prepares tokenizer and token shards in the cache below runs_root(), where runs of the same data share them. May take minutes; whatever
/// ends it, the next one finds only whole files there.
expected<std::vector<site_data>> prepare_cached_data(const recipe& plan);

/// Puts what was prepared into the run's folder and fills in the roster's sites; tells of each.
expected<void> put_into_run(const std::vector<site_data>& prepared, run_folder& run, console& out);

}  // namespace isthmus::launcher
