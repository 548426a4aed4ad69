#pragma once

#include "actors/spawn.hpp"
#include "framework/data/lease_book.hpp"
#include "framework/data/sample_order.hpp"

#include <functional>
#include <memory>

namespace isthmus::actors {

/// What a shard actor works on. Text stays here: it hands out rows of token ids to devices of its own site only.
struct shard_settings {
  std::shared_ptr<const token_shard> tokens;
  std::int64_t context = 0;
  std::uint64_t seed = 0;
  lease_book book;
  std::function<void(const lease_settlement&, std::string_view reason)> settled;  // ledger L1
  std::function<void(const std::vector<lease>&, step_number step)> granted;       // ledger L1
};

/// Leases sample ranges of one shard (want_rows -> rows_leased) and settles them (watermark_moved, leases_vetoed, leases_voided, close_leases). A device
/// that dies costs no lease: the rows of its step are computed again.
caf::actor spawn_shard(caf::event_based_actor* owner, shard_settings settings);

}  // namespace isthmus::actors
