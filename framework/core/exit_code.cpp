#include "framework/core/exit_code.hpp"

namespace isthmus {

exit_code exit_code_of(errc code) {
  switch (code) {
    case errc::ok: return exit_ok;
    case errc::usage: return exit_usage;
    case errc::recipe_invalid: return exit_recipe;
    case errc::not_found:
    case errc::truncated:
    case errc::malformed:
    case errc::checksum_mismatch:
    case errc::out_of_range:
    case errc::unsupported:
    case errc::too_large:
    case errc::not_finite:
    case errc::hash_mismatch: return exit_file;
    case errc::io_failed:
    case errc::environment:
    case errc::disk_full: return exit_environment;
    case errc::refused:
    case errc::wrong_run:
    case errc::wrong_version:
    case errc::wrong_recipe:
    case errc::not_member:
    case errc::stale_incarnation: return exit_refused;
    case errc::ledger_violated: return exit_violated;
    default: return exit_failed;
  }
}

}  // namespace isthmus
