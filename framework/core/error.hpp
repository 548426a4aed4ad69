#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace isthmus {

// clang-format off
/// What kind of thing the outside world did wrong. `describe` gives the stable name that users can look up.
enum class errc {
  ok = 0,
  // recipes and the command line
  usage, recipe_invalid,
  // bytes of strangers: files and frames
  not_found, io_failed, truncated, malformed, checksum_mismatch, out_of_range, unsupported, too_large,
  // the environment: a port in use, a missing library, a full disk
  environment, disk_full,
  // peers
  refused, timed_out, disconnected, wrong_run, wrong_version, wrong_recipe, stale_epoch, stale_incarnation,
  stale_round, not_member, not_home, not_finite,
  // promises
  hash_mismatch, ledger_violated,
};
// clang-format on

/// "truncated" for errc::truncated, and so on: stable, lower case, for logs and JSON.
std::string_view describe(errc code);

/// An error of the outside world, ready to be shown: what failed, where, what was found, what is allowed, what to do.
struct error {
  errc code = errc::ok;
  std::string message;
};

/// Our own bug: a broken invariant. Nobody catches it but a supervisor, which restarts the actor from durable state.
class contract_error : public std::logic_error {
  using std::logic_error::logic_error;
};

/// Throws contract_error in every build when the condition does not hold.
inline void ensure(bool holds, const char* what) {
  if (!holds) throw contract_error(what);
}

}  // namespace isthmus
