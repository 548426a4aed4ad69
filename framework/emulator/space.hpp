#pragma once

#include "framework/core/descriptor.hpp"
#include "framework/core/expected.hpp"

#include <string>

namespace isthmus::emulator {

/// A network namespace that has no name, with a TUN device as its only way out. It lives as long as somebody holds `space` or runs in it:
/// whatever ends its owner, nothing is left behind.
struct network_space {
  descriptor space;  // for enter_space
  descriptor tun;    // every read is a packet that leaves, every write one that arrives; does not block
};

/// address: IPv4, host order, of a network of prefix /16. Needs root, or a user namespace of its own. Errors: environment.
expected<network_space> make_space(std::uint32_t address);

/// Moves this process into the namespace, with a /sys that shows its devices. Call before there are threads. Errors: environment.
expected<void> enter_space(int space);

/// Lets an ordinary user be root of a user namespace of its own, where the system allows that; nothing for root. Call before there are
/// threads. Errors: environment.
expected<void> become_root_somewhere();

}  // namespace isthmus::emulator
