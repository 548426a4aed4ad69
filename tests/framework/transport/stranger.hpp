#pragma once

#include "framework/core/error.hpp"
#include "framework/transport/address.hpp"
#include "framework/transport/byte_io.hpp"
#include "framework/transport/control_connection.hpp"
#include "tests/framework/transport/probe.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <span>
#include <string>

namespace isthmus::testing {

/// A stranger's socket.
class stranger {
public:
  explicit stranger(const std::string& address) {
    const auto to = *parse_address(address);
    socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ensure(::connect(socket_, to.get(), to.size) == 0, "connect");
  }
  ~stranger() { ::close(socket_); }
  stranger(const stranger&) = delete;
  stranger& operator=(const stranger&) = delete;

  void say(std::span<const std::byte> bytes) { [[maybe_unused]] const auto n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  void say(const std::string& text) { say(std::as_bytes(std::span(text.data(), text.size()))); }
  void say(control_kind kind, std::span<const std::byte> body) {
    byte_writer out;
    out.number(static_cast<std::uint32_t>(body.size() + 1));
    out.number(static_cast<std::uint8_t>(kind));
    out.raw(body);
    say(out.bytes());
  }
  /// Reads until the other end closes; false after ten seconds.
  bool is_closed() {
    for (;;) {
      pollfd p{socket_, POLLIN, 0};
      if (::poll(&p, 1, 10'000) <= 0) return false;
      char chunk[4096];
      const auto n = ::recv(socket_, chunk, sizeof chunk, 0);
      if (n <= 0) return true;
      heard_.append(chunk, static_cast<std::size_t>(n));
    }
  }
  /// Waits for at least so many bytes.
  bool hears(std::size_t bytes) {
    while (heard_.size() < bytes) {
      char chunk[4096];
      const auto n = ::recv(socket_, chunk, sizeof chunk, 0);
      if (n <= 0) return false;
      heard_.append(chunk, static_cast<std::size_t>(n));
    }
    return true;
  }
  const std::string& heard() const { return heard_; }

private:
  int socket_;
  std::string heard_;
};

inline std::size_t lines_with(const probe::notes& n, const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(n.log.begin(), n.log.end(), [&](const std::string& l) { return l.find(text) != std::string::npos; }));
}

}  // namespace isthmus::testing
