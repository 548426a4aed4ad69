#include "framework/transport/port_guard.hpp"

#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>

namespace isthmus {

namespace {

constexpr std::uint32_t source_of_v4 = 12, source_of_v6 = 8;  // where the source address stands in the IP header
constexpr std::uint32_t drop = 0, pass = 0xffff'ffff;

std::uint32_t word_at(std::span<const std::byte> host, std::size_t at) {
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < 4; ++i) word = word << 8 | static_cast<std::uint32_t>(host[at + i]);
  return word;
}

bool listens_on_tcp(int descriptor) {
  int listens = 0, protocol = 0;
  socklen_t size = sizeof listens;
  if (::getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) return false;
  size = sizeof protocol;
  return ::getsockopt(descriptor, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP;
}

}  // namespace

std::vector<listening_socket> listening_sockets() {
  std::vector<listening_socket> found;
  std::error_code gone;  // a descriptor may close while we look
  for (std::filesystem::directory_iterator at("/proc/self/fd", gone), end; !gone && at != end; at.increment(gone)) {
    const std::string name = at->path().filename();
    int descriptor = -1;
    std::from_chars(name.data(), name.data() + name.size(), descriptor);
    sockaddr_in6 here{};  // a port is at the same place in IPv4's
    socklen_t size = sizeof here;
    if (listens_on_tcp(descriptor) && ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&here), &size) == 0)
      found.push_back({descriptor, ntohs(here.sin6_port)});
  }
  return found;
}

expected<void> admit_hosts(int socket, std::span<const std::span<const std::byte>> hosts) {
  std::vector<sock_filter> program;
  for (const auto host : hosts) {
    const std::size_t words = host.size() / 4;
    const std::uint32_t source = words == 1 ? source_of_v4 : source_of_v6;
    for (std::size_t i = 0; i < words; ++i) {
      const auto rest = static_cast<std::uint8_t>(2 * (words - i) - 1);  // past what is left of this host, when a word differs
      program.push_back(
          BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(SKF_NET_OFF) + source + static_cast<std::uint32_t>(4 * i)));
      program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, word_at(host, 4 * i), 0, rest));
    }
    program.push_back(BPF_STMT(BPF_RET | BPF_K, pass));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, drop));
  const sock_fprog all{static_cast<unsigned short>(program.size()), program.data()};
  if (::setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof all) != 0)
    return fail(errc::environment, std::string("the kernel takes no filter for a data port: ") + std::strerror(errno));
  return {};
}

}  // namespace isthmus
