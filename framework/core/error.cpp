#include "framework/core/error.hpp"

namespace isthmus {

std::string_view describe(errc code) {
  switch (code) {
    case errc::ok: return "ok";
    case errc::usage: return "usage";
    case errc::recipe_invalid: return "recipe_invalid";
    case errc::not_found: return "not_found";
    case errc::io_failed: return "io_failed";
    case errc::truncated: return "truncated";
    case errc::malformed: return "malformed";
    case errc::checksum_mismatch: return "checksum_mismatch";
    case errc::out_of_range: return "out_of_range";
    case errc::unsupported: return "unsupported";
    case errc::too_large: return "too_large";
    case errc::environment: return "environment";
    case errc::disk_full: return "disk_full";
    case errc::refused: return "refused";
    case errc::timed_out: return "timed_out";
    case errc::disconnected: return "disconnected";
    case errc::wrong_run: return "wrong_run";
    case errc::wrong_version: return "wrong_version";
    case errc::wrong_recipe: return "wrong_recipe";
    case errc::stale_epoch: return "stale_epoch";
    case errc::stale_incarnation: return "stale_incarnation";
    case errc::stale_round: return "stale_round";
    case errc::not_member: return "not_member";
    case errc::not_home: return "not_home";
    case errc::not_finite: return "not_finite";
    case errc::hash_mismatch: return "hash_mismatch";
    case errc::ledger_violated: return "ledger_violated";
  }
  return "unknown";
}

}  // namespace isthmus
