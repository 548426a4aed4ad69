#pragma once

#include "launcher/console.hpp"
#include "launcher/run_folder.hpp"

#include <signal.h>

#include <map>
#include <string>

/// Steps of a launch that a rehearsal with real processes takes, too.
namespace isthmus::launcher {

void show_header(const run_folder& run, console& out);
/// Puts the recipe's text into a run folder made a moment ago, which goes away again when that fails. signals: of hold_signals(); asked
/// to stop, it ends the process. Gives an exit code, and has told why.
int prepare_text(run_folder& run, const sigset_t& signals, console& out);
/// Gives every process its address and key, and writes the roster.
expected<void> give_addresses(run_folder& run, const std::map<site_id, std::string>& addresses);

}  // namespace isthmus::launcher
