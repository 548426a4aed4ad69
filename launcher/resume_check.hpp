#pragma once

#include "launcher/run_folder.hpp"

namespace isthmus::launcher {

/// Whether a run has all that it needs to go on; looked at before any of its processes is started, so that nothing is trained, voided or
/// overwritten where a file is missing. Errors: not_found and malformed, naming the file and what to do.
expected<void> check_resumable(const run_folder& run);

}  // namespace isthmus::launcher
