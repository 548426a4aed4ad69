#pragma once

#include "framework/core/error.hpp"

namespace isthmus {

/// What a process of ours says when it ends; docs/manual.md explains each.
enum exit_code : int {
  exit_ok = 0,
  exit_failed = 1,  // the run failed
  exit_usage = 2,
  exit_recipe = 3,       // recipe invalid
  exit_environment = 4,  // library, device, port or disk missing
  exit_file = 5,         // data or model file bad
  exit_refused = 6,      // peer, join or authentication refused
  exit_stopped = 7,      // on purpose, resumable
  exit_violated = 8,     // a promise: ledger mismatch
  exit_interrupted = 130,
};

/// The exit code for an error of the outside world.
exit_code exit_code_of(errc code);

}  // namespace isthmus
