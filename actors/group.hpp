#pragma once

#include "actors/device.hpp"
#include "actors/spawn.hpp"
#include "framework/rounds/contribution_book.hpp"
#include "framework/rounds/parameter_group.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace isthmus::actors {

/// What the actor of one parameter group works on.
struct group_parts {
  std::unique_ptr<parameter_group> group;
  std::unique_ptr<contribution_book> book;
  std::optional<contribution_snapshot> saved_book;  // of the checkpoint, until it is known whether it still counts
  std::shared_ptr<site_memory> memory;
  std::function<void(const std::string& line)> write_ledger;
};

/// One parameter group of a site: forms, sends and settles contributions, takes part in rounds (at its home: closes them), keeps anchor
/// and residual. It computes, so it has a thread of its own for real. While the trainer works from its anchor, the anchor does not
/// move: what would move it waits until the trainer has handed over what it has (hand_in).
/// Sends outbound, group_holds, group_synced to the owner; group_settled, group_unsettled, anchor_loaded, hand_in to the trainer.
caf::actor spawn_group(caf::event_based_actor* owner, tier where, group_parts parts, group_settings settings, caf::actor metrics);

}  // namespace isthmus::actors
