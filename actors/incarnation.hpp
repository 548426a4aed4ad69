#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/storage.hpp"
#include "framework/rounds/messages.hpp"

#include <cstdint>
#include <string>

namespace isthmus::actors {

/// Where a process keeps what is its own: "sites/site-1", "sites/coordinator".
std::string own_folder(site_id site);

/// Of a new run: the process whose folder that is starts as incarnation 1. Nothing where it has started before.
expected<void> expect_first_start(storage& disk, const std::string& folder);

/// The number of this start of the process whose folder that is: it rises with each, and is durable before anybody hears of it. Where no
/// start was expected or made before, the disk was lost, and with it the last number: then it is 2^20 + `chance`, below 2^20, so that it
/// is hardly ever one that was used. Errors: malformed, those of the disk.
expected<incarnation_number> next_incarnation(storage& disk, const std::string& folder, std::uint32_t chance);

/// For a process that is told, before it was ever admitted, that a later incarnation was here: its disk was lost, or is an old copy.
/// The next start takes a number eight times as high, so that a few starts lead above any. Errors as above.
expected<void> skip_incarnations(storage& disk, const std::string& folder);

}  // namespace isthmus::actors
