#pragma once

#include "framework/core/rng.hpp"
#include "framework/rounds/messages.hpp"

#include <set>
#include <string>

/// What a rehearsal does to the files of a site's process.
namespace isthmus::launcher {

/// Its ledger, its checkpoints and its incarnation number are gone; its key stays, which the roster names. Of a site that is not running.
void lose_disk(const std::string& run_path, site_id site);

/// Flips a bit of a file of one of its checkpoints. One that is not in `rotten` stays good; the other is put there. False when there is
/// only one.
bool rot_checkpoint(const std::string& run_path, site_id site, std::set<std::string>& rotten, rng& draws);

}  // namespace isthmus::launcher
