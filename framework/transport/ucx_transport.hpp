#pragma once

#include "framework/core/clock.hpp"
#include "framework/core/expected.hpp"
#include "framework/transport/identity.hpp"
#include "framework/transport/transport.hpp"

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <set>
#include <string>

namespace isthmus {

struct ucx_transport_options {
  link_hello hello;                       // who we are
  std::shared_ptr<const link_keys> keys;  // what links are sealed with; null: they are not
  std::string listen = "127.0.0.1:0";     // "a.b.c.d:port" or "[v6]:port"; port 0: any free one
  bool allow_test_network = false;        // without keys: also private addresses, inside a network namespace that is not init's
  bool bulk_over_tcp = false;             // bulk data over TCP connections of our own; UCX is not begun and no data port is open
  std::set<site_id> outward;              // sites that can only dial out: they dial whatever their number
  int endpoints = 2;       // UCX endpoints, or TCP connections, a peer, 1 to 16: several where one TCP stream cannot fill the path
  std::string data_ports;  // that UCX may listen on, "first-last", one a link; empty: any
  std::size_t chunk_bytes = 1U << 20;    // 64 KiB to 4 MiB
  std::size_t window_bytes = 16U << 20;  // unacknowledged bytes a peer at most, at least one chunk; rate and round trip say less
  std::size_t transfer_bytes_max = std::size_t{1} << 30;    // of one incoming payload: more is refused before memory is taken
  std::size_t incoming_bytes_max = std::size_t{2} << 30;    // of all unfinished payloads of one peer
  std::size_t unadmitted_max = 256;                         // connections that have not said who they are; the oldest gives way
  double handshakes_burst = 64, handshakes_per_second = 8;  // of one address, that come to nothing; more are not looked at
  duration greeting_timeout = std::chrono::seconds(5);      // from the first byte to admission
  duration frame_timeout = std::chrono::seconds(30);        // from the first to the last byte of a control frame
  duration stall_timeout = std::chrono::seconds(30);        // without an acknowledgement while something is in flight: the link is closed
  duration back_off_min = std::chrono::milliseconds(100), back_off_max = std::chrono::seconds(5);
  /// One line an event that no link hears of: a refused connection, a failed dial. From the transport's thread.
  std::function<void(const std::string& line)> log = [](const std::string&) {};
};

/// Some of UCX's settings are read when its library is loaded: call first thing in main. Runs the program again, once, when they
/// are not in the environment yet.
void prepare_environment(int argc, char** argv);

/// A transport over TCP (control) and UCX active messages (bulk), one thread (docs/wire.md). Binds at once; threads start with start().
/// With keys it binds and dials loopback and private addresses, without them loopback only, or private addresses of a test namespace
/// where that is allowed.
/// Errors: environment (a port in use, an address that may not be bound, UCX missing), usage (an option out of range).
/// Borrows the clock.
expected<std::unique_ptr<transport>> make_ucx_transport(ucx_transport_options options, const clock& time);

}  // namespace isthmus
