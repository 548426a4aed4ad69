#pragma once

#include "framework/checkpoint/checkpoint.hpp"
#include "framework/core/storage.hpp"
#include "framework/models/hybrid_model.hpp"
#include "launcher/run_folder.hpp"

#include <optional>

namespace isthmus::launcher {

/// The anchor that a run's newest checkpoint holds.
struct anchor_of_run {
  site_id site = 0;
  loaded_checkpoint saved;
  round_number round() const;
  /// Errors: malformed or wrong_recipe, when the weights are not this model's.
  expected<void> copy_to(hybrid_model& model) const;
};

/// The newest of that site that verifies, or the furthest of all sites that does, with warnings about newer ones.
/// Errors: not_found (no checkpoint yet), wrong_recipe, malformed, ...
expected<anchor_of_run> newest_anchor(const run_folder& run, storage& disk, std::optional<site_id> site);

}  // namespace isthmus::launcher
