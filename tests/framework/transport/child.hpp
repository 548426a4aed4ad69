#pragma once

#include "framework/rounds/messages.hpp"

#include <sys/types.h>

#include <string>

namespace isthmus::testing {

/// A peer in a process of its own (peer_process.cpp).
class child {
public:
  child(site_id site, incarnation_number incarnation, const std::string& listen, site_id peer, const std::string& peer_address);
  ~child();  // kills it
  child(const child&) = delete;
  child& operator=(const child&) = delete;

  const std::string& address() const { return address_; }
  pid_t id() const { return process_; }
  void signal(int number);
  /// Ends its input and waits: its exit code.
  int leave();
  /// SIGKILL, and waits until it is gone.
  void kill();

private:
  pid_t process_ = -1;
  int input_ = -1;
  std::string address_;
};

/// Of this process.
std::size_t open_descriptors();

}  // namespace isthmus::testing
