#include "framework/transport/address.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <unistd.h>

#include <charconv>
#include <cstring>
#include <memory>

namespace isthmus {

namespace {

const sockaddr_in& v4(const socket_address& a) { return a.storage.v4; }
const sockaddr_in6& v6(const socket_address& a) { return a.storage.v6; }

std::string namespace_of(const char* process) {
  char name[64] = {};
  const std::string path = std::string("/proc/") + process + "/ns/net";
  const ssize_t n = readlink(path.c_str(), name, sizeof name - 1);
  return n > 0 ? std::string(name, static_cast<std::size_t>(n)) : std::string();
}

bool same_host(const sockaddr* a, const socket_address& b) {
  if (a == nullptr || a->sa_family != b.storage.ss_family) return false;
  if (a->sa_family == AF_INET) return reinterpret_cast<const sockaddr_in*>(a)->sin_addr.s_addr == v4(b).sin_addr.s_addr;
  return std::memcmp(&reinterpret_cast<const sockaddr_in6*>(a)->sin6_addr, &v6(b).sin6_addr, sizeof(in6_addr)) == 0;
}

}  // namespace

std::uint16_t socket_address::port() const { return ntohs(storage.ss_family == AF_INET ? v4(*this).sin_port : v6(*this).sin6_port); }

bool socket_address::is_loopback() const {
  if (storage.ss_family == AF_INET) return (ntohl(v4(*this).sin_addr.s_addr) >> 24) == 127;
  return storage.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6(*this).sin6_addr);
}

bool socket_address::is_private() const {
  if (storage.ss_family == AF_INET) {
    const std::uint32_t host = ntohl(v4(*this).sin_addr.s_addr);
    return host >> 24 == 10 || host >> 20 == 0xac1 || host >> 16 == 0xc0a8;
  }
  return storage.ss_family == AF_INET6 && (v6(*this).sin6_addr.s6_addr[0] & 0xfe) == 0xfc;
}

std::span<const std::byte> socket_address::host() const {
  if (storage.ss_family == AF_INET) return std::as_bytes(std::span(&v4(*this).sin_addr, 1));
  return std::as_bytes(std::span(&v6(*this).sin6_addr, 1));
}

std::string socket_address::text() const {
  char host[INET6_ADDRSTRLEN] = "?";
  if (storage.ss_family == AF_INET) {
    inet_ntop(AF_INET, &v4(*this).sin_addr, host, sizeof host);
    return std::string(host) + ":" + std::to_string(ntohs(v4(*this).sin_port));
  }
  inet_ntop(AF_INET6, &v6(*this).sin6_addr, host, sizeof host);
  return "[" + std::string(host) + "]:" + std::to_string(ntohs(v6(*this).sin6_port));
}

expected<socket_address> parse_address(const std::string& text) {
  const auto bad = [&](const char* why) {
    return fail(errc::environment, "address '" + text.substr(0, 80) + "': " + why + "; write it as 127.0.0.1:7000 or [::1]:7000");
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) return bad("it has no port");
  unsigned port = 0;
  const char* end = text.data() + text.size();
  const auto [stop, status] = std::from_chars(text.data() + colon + 1, end, port);
  if (status != std::errc() || stop != end || port > 65535) return bad("its port is not a number from 0 to 65535");

  std::string host = text.substr(0, colon);
  if (host == "localhost") host = "127.0.0.1";
  socket_address address;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    auto& six = address.storage.v6;
    if (inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &six.sin6_addr) != 1) return bad("it is no IPv6 address");
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(static_cast<std::uint16_t>(port));
    address.size = sizeof six;
    return address;
  }
  auto& four = address.storage.v4;
  if (inet_pton(AF_INET, host.c_str(), &four.sin_addr) != 1) return bad("its host is not numeric");
  four.sin_family = AF_INET;
  four.sin_port = htons(static_cast<std::uint16_t>(port));
  address.size = sizeof four;
  return address;
}

expected<void> check_allowed(const socket_address& address, const link_reach& reach) {
  if (address.is_loopback() || (reach.sealed && address.is_private())) return {};
  const bool four = address.storage.ss_family == AF_INET;
  const std::string refused = "address " + address.text() + " is refused: ", loopback = four ? "127.0.0.0/8" : "::1";
  if (reach.sealed)
    return fail(errc::environment, refused + "links between sites may use loopback (" + loopback + ") and private addresses (" +
                                       (four ? "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16" : "fc00::/7") +
                                       ") only; a VPN gives machines that are far apart such addresses");
  const std::string why = refused + "links without keys may use loopback (" + loopback + ") only";
  if (!reach.test_network) return fail(errc::environment, why);
  if (!address.is_private()) return fail(errc::environment, why + ", or private addresses in a test namespace");
  const std::string ours = namespace_of("self"), init = namespace_of("1");
  if (ours.empty() || init.empty())
    return fail(errc::environment, why + "; a test namespace was asked for, but /proc/1/ns/net cannot be read to tell (run as root)");
  if (ours == init)
    return fail(errc::environment, why + "; a test namespace was asked for, but this process is in init's network namespace");
  return {};
}

expected<std::string> device_of(const socket_address& address) {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0)
    return fail(errc::environment, "the network interfaces cannot be listed: " + std::string(std::strerror(errno)));
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(all, freeifaddrs);
  std::string loopback;
  for (const ifaddrs* i = all; i != nullptr; i = i->ifa_next) {
    if (same_host(i->ifa_addr, address)) return std::string(i->ifa_name);
    if ((i->ifa_flags & IFF_LOOPBACK) != 0) loopback = i->ifa_name;
  }
  if (address.is_loopback() && !loopback.empty()) return loopback;  // all of 127/8 is there though only 127.0.0.1 is listed
  return fail(errc::environment, "no network interface has the address " + address.text());
}

}  // namespace isthmus
