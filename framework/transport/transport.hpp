#pragma once

#include "framework/core/buffer.hpp"
#include "framework/core/expected.hpp"
#include "framework/rounds/messages.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace isthmus {

/// Who we are; checked by both ends on the control channel before anything else is said.
struct link_hello {
  std::string run_id;
  std::uint32_t version = 1;  // of the wire protocol
  hash128 recipe_hash;
  site_id site = 0;
  incarnation_number incarnation = 0;
};

/// Called by a transport, one at a time, from its own thread (a simulated one: from the simulation's loop). Must not block.
struct transport_events {
  /// The peer is there, admitted, both paths usable. Again after each reconnect.
  std::function<void(site_id peer, incarnation_number incarnation)> up;
  /// No longer. Whatever was in flight to it has failed. reason.code: disconnected, timed_out, refused, ...
  /// Of a link that was not up: environment, its address may not be dialled.
  std::function<void(site_id peer, error reason)> down;
  /// A whole control message.
  std::function<void(site_id peer, shared_bytes bytes)> control;
  /// A whole bulk message: header as sent, payload reassembled.
  std::function<void(site_id peer, shared_bytes header, shared_bytes payload)> bulk;
  /// The peer's transport holds all of transfer `id` (application-level acknowledgement), or it never will.
  std::function<void(site_id peer, std::uint64_t id, expected<void> outcome)> sent;
  /// The peer will not have us, and asking again cannot change that: wrong_run, wrong_version, wrong_recipe, or stale_incarnation: we
  /// were replaced. It is asked again all the same, slowly: its address may be in other hands.
  std::function<void(site_id peer, error reason)> refused = [](site_id, const error&) {};
};

/// Counters of one link since start.
struct link_counters {
  std::uint64_t control_bytes_out = 0, control_bytes_in = 0, bulk_bytes_out = 0, bulk_bytes_in = 0;  // on the wire, framing included
  std::uint64_t payload_bytes_out = 0, payload_bytes_in = 0, bytes_in_flight = 0, reconnects = 0;
  std::uint64_t forged = 0;                                  // frames and chunks of a sealed link that did not open: each ended it
  double round_trip_seconds = 0, send_bytes_per_second = 0;  // smoothed; 0 when unknown
};

/// The wire of one process: a control path (ordered small messages) and a bulk path (large ones, chunked under a byte window) to
/// each peer. Reconnects by site identity with back-off; every operation has a deadline. Calls never block and may come from any thread.
class transport {
public:
  virtual ~transport() = default;
  /// Begins; events may come from now on.
  virtual void start(transport_events events) = 0;
  /// Keeps a link up, with back-off (said again: dials now), until forget(). The larger id dials, the coordinator is dialled by all.
  /// address: where the peer listens; of several, parted by commas, it listens at one, and they are tried in turn.
  virtual void keep(site_id peer, const std::string& address) = 0;
  virtual void forget(site_id peer) = 0;
  /// Breaks the link now (liveness decided so); a kept peer is dialled again.
  virtual void close(site_id peer, error reason) = 0;
  virtual void send_control(site_id peer, shared_bytes bytes) = 0;
  /// header: at most 1 KiB. Its outcome comes by events.sent with this id (chosen by the caller, unique per peer).
  virtual void send_bulk(site_id peer, std::uint64_t id, shared_bytes header, shared_bytes payload) = 0;
  virtual link_counters counters(site_id peer) const = 0;
  /// "127.0.0.1:port" where others reach us.
  virtual std::string address() const = 0;
  /// No event comes after it returns.
  virtual void stop() = 0;
};

}  // namespace isthmus
