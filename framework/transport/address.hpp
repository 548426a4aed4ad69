#pragma once

#include "framework/core/expected.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace isthmus {

/// A numeric IPv4 or IPv6 address with a port.
struct socket_address {
  union any {  // a hundred bytes less than sockaddr_storage: every stranger's connection has one
    sockaddr_in6 v6;
    sockaddr_in v4;
    sa_family_t ss_family;  // in front of both
  };
  any storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  std::uint16_t port() const;
  bool is_loopback() const;
  bool is_private() const;                  // RFC 1918, RFC 4193
  std::span<const std::byte> host() const;  // 4 or 16 bytes, network order
  std::string text() const;                 // "127.0.0.1:7000", "[::1]:7000"
};

/// "a.b.c.d:port", "[v6]:port" or "localhost:port". Errors: environment.
expected<socket_address> parse_address(const std::string& text);

/// What decides where links may go.
struct link_reach {
  bool sealed = false;        // links have keys
  bool test_network = false;  // a test has asked for it
};

/// Whether links may use the address: loopback always; private ones when they are sealed, or if `test_network` holds and this process
/// lives in a network namespace that is not init's. Errors: environment, saying why.
expected<void> check_allowed(const socket_address& address, const link_reach& reach);

/// The network interface that has the address, for UCX_NET_DEVICES. Errors: environment.
expected<std::string> device_of(const socket_address& address);

}  // namespace isthmus
