#pragma once

#include "actors/device.hpp"
#include "actors/site.hpp"
#include "framework/checkpoint/checkpoint.hpp"
#include "framework/data/lease_book.hpp"
#include "framework/rounds/contribution_book.hpp"
#include "framework/rounds/parameter_group.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace isthmus::actors {

/// Where a site begins: from its newest checkpoint, or from nothing.
struct site_start {
  std::shared_ptr<site_memory> memory;
  std::vector<group_shape> shapes;
  std::vector<group_settings> settings;               // per group
  std::vector<std::optional<group_snapshot>> groups;  // empty: initial weights
  std::vector<std::optional<contribution_snapshot>> books;
  std::optional<lease_book> leases;
  step_number step = 0;
  std::uint64_t tokens = 0;
  bool resumed = false;
  std::string checkpoint;   // its folder; for the ledger
  hash128 checkpoint_hash;  // of its manifest
  incarnation_number saved_by = 0;
  std::vector<std::string> warnings;
};

/// Reads the newest checkpoint that verifies. No checkpoint at all is no error; one of another recipe is.
expected<site_start> start_site(const site_parts& parts);

/// A copy of everything a checkpoint keeps, taken between periods.
struct site_copy {
  checkpoint_facts facts;
  std::shared_ptr<const site_memory> layout_of;
  float_array weights, first, second, momentum, residual;  // [layout.size]
  explicit site_copy(std::size_t floats) : weights(floats), first(floats), second(floats), momentum(floats), residual(floats) {}
};
/// memory: of the copy before, written again where nobody reads it any more (pages that are fresh each time cost more than all else of a
/// copy); else it is made, and kept there for the next one.
std::shared_ptr<const site_copy> copy_site(const site_parts& parts, const site_start& start, std::shared_ptr<site_copy>& memory,
                                           step_number step, std::uint64_t tokens,
                                           const std::vector<std::shared_ptr<const group_snapshot>>& groups,
                                           const std::vector<std::shared_ptr<const contribution_snapshot>>& books,
                                           const std::string& cursor);
/// The files of a copy; borrows it.
std::vector<checkpoint_part> parts_of(const site_copy& copy);
std::string checkpoint_folder(site_id site);

}  // namespace isthmus::actors
