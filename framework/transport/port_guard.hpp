#pragma once

#include "framework/core/expected.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace isthmus {

/// Descriptors of this process that are TCP sockets which listen, ascending.
std::vector<int> listening_sockets();

/// From now on the kernel drops, unanswered, whatever comes to the socket from another host than these (4 or 16 bytes each, network order,
/// one family). Sockets that it accepts inherit that. Errors: environment.
expected<void> admit_hosts(int socket, std::span<const std::span<const std::byte>> hosts);

}  // namespace isthmus
