#pragma once

#include "framework/transport/address.hpp"

#include <cstddef>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace isthmus::testing {

/// Somebody without a key, who calls from an address of its own and never waits for anything.
class outsider {
public:
  /// from: "127.0.0.66".
  explicit outsider(const std::string& from);

  /// One connection, which closes with it.
  class call {
  public:
    call(const outsider& who, const std::string& to);
    ~call();
    call(const call&) = delete;
    call& operator=(const call&) = delete;
    /// What of it the socket takes.
    void say(std::span<const std::byte> bytes) const;
    bool is_connected() const;
    /// Bytes heard until now.
    std::size_t heard();

  private:
    int socket_;
    std::size_t heard_ = 0;
  };

  /// Opens one more and closes the oldest of more than so many.
  call& add(const std::string& to, std::size_t open_at_most);
  /// Hangs up everywhere. Bytes heard in all that were open.
  std::size_t leave();
  std::size_t heard_so_far = 0;  // of connections that were closed
  std::deque<std::unique_ptr<call>> calls;

private:
  socket_address from_;
};

/// What this process has open.
struct resources {
  std::size_t descriptors = 0, threads = 0;
  std::size_t bytes_in_use = 0;  // of malloc; 0 where a sanitizer has its own
};
resources resources_now();

/// "127.0.0.1:port" of every TCP socket of this process that listens.
std::vector<std::string> listening_addresses();

}  // namespace isthmus::testing
