#pragma once

#include "framework/transport/handshake.hpp"

#include <initializer_list>
#include <memory>

namespace isthmus::testing {

/// Of one site of a test's run: every site has the same keys each time it is asked for. `roster`: who is in it.
std::shared_ptr<const link_keys> keys_of(site_id site, std::initializer_list<site_id> roster = {0, 1, 2, 9, coordinator_id});
/// 32 bytes that a seed decides.
secret seeded_secret(std::uint64_t seed);

}  // namespace isthmus::testing
