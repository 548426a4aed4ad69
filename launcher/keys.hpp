#pragma once

#include "framework/transport/identity.hpp"
#include "launcher/run_folder.hpp"

#include <memory>

namespace isthmus::launcher {

/// Where the secret half of a process's key lies.
std::string key_path(const run_folder& run, site_id site);

/// Gives every process of the run a key pair, if it has none yet: the secret half to sites/*/key, the public one to run.people. Errors:
/// as of identity::read and write.
expected<void> prepare_keys(run_folder& run);

/// What seals the links of one process of the run. Errors: as of identity::read; malformed (the roster).
expected<std::shared_ptr<const link_keys>> read_keys(const run_folder& run, site_id self);

}  // namespace isthmus::launcher
