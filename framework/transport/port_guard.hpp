#pragma once

#include "framework/core/expected.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace isthmus {

/// A TCP socket of this process that listens.
struct listening_socket {
  int descriptor;
  std::uint16_t port;
  bool operator==(const listening_socket&) const = default;
};
std::vector<listening_socket> listening_sockets();

/// From now on the kernel drops, unanswered, whatever comes to the socket from another host than these (4 or 16 bytes each, network order,
/// one family). Sockets that it accepts inherit that. Errors: environment.
expected<void> admit_hosts(int socket, std::span<const std::span<const std::byte>> hosts);

}  // namespace isthmus
