#pragma once

#include "framework/core/expected.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace isthmus {

/// What a frame of the control channel is (docs/wire.md).
enum class control_kind : std::uint8_t {
  greeting = 1,  // who we are and how to reach our UCX worker; first on every connection, both ways
  ready,         // the dialling end accepts the greeting: both are up
  refusal,       // why the connection ends before it began
  message,       // a peer_message frame
  acknowledge,   // chunks of a bulk transfer have arrived
  ping,
  pong,
  goodbye,  // the process leaves on purpose
  closing,  // the link is broken on purpose, and why
  hello,    // the handshake, in the clear; nothing else is before the channel is sealed
  answer,
  confirm,
  bulk,  // on a connection of its own: whose bulk data it carries, then their chunks
};
inline constexpr std::uint8_t control_kind_last = static_cast<std::uint8_t>(control_kind::bulk);

struct control_frame {
  control_kind kind;
  std::span<const std::byte> body;  // until the next fill() or read_frame()
};

class stream_seal;

/// One TCP connection that carries length-prefixed frames: u32 length of what follows (little endian), u8 kind, body; kind and body are
/// sealed from seal() on, both ways. Non-blocking. All frames leave through write_frame and arrive through read_frame.
class control_connection {
public:
  /// Owns the socket, which must be non-blocking.
  explicit control_connection(int socket);
  ~control_connection();
  control_connection(const control_connection&) = delete;
  control_connection& operator=(const control_connection&) = delete;

  int socket() const { return socket_; }
  /// All frames after those written and read so far are sealed. The seal has begun both directions.
  void seal(std::unique_ptr<stream_seal> with);
  bool is_sealed() const { return seal_ != nullptr; }
  /// Queues a frame; flush() sends it. Sealed, nothing follows a refusal, goodbye or closing: what is written after one is dropped.
  void write_frame(control_kind kind, std::span<const std::byte> body);
  /// Queues a frame whose body the caller writes before anything else is called, and seals itself, if at all: from now on this connection
  /// reads and writes frames as without seal().
  std::span<std::byte> reserve_open_frame(control_kind kind, std::size_t body_bytes);
  /// Sends what the socket takes. Errors: disconnected.
  expected<void> flush();
  bool wants_to_write() const { return out_sent_ < out_.size(); }
  std::size_t queued_bytes() const { return out_.size() - out_sent_; }

  /// Reads what is there, up to 64 KiB and until `buffered_bytes_max` wait to be read as frames; false when there was nothing. Errors:
  /// disconnected (also at the end of the stream; where that comes without the last frame of a sealed one, it says so).
  expected<bool> fill(std::size_t buffered_bytes_max = std::numeric_limits<std::size_t>::max());
  /// The next whole frame. Errors: too_large (a length past 1 + body_bytes_max), malformed (length 0, unknown kind), checksum_mismatch
  /// (it does not open): the connection is of no use after that.
  expected<std::optional<control_frame>> read_frame(std::size_t body_bytes_max);
  /// Some bytes of a frame that is not whole yet.
  bool holds_part() const { return in_read_ < in_.size(); }
  /// Forgets what was read.
  void discard() { in_.clear(), in_read_ = 0; }
  /// No more frames from us; the peer reads those sent.
  void shut_down();

  std::uint64_t bytes_out() const { return bytes_out_; }
  std::uint64_t bytes_in() const { return bytes_in_; }

private:
  expected<std::optional<control_frame>> read_sealed_frame(std::size_t body_bytes_max);

  int socket_;
  std::unique_ptr<stream_seal> seal_;
  std::vector<std::byte> out_, in_;
  std::size_t out_sent_ = 0, in_read_ = 0;
  std::uint64_t bytes_out_ = 0, bytes_in_ = 0;
};

}  // namespace isthmus
