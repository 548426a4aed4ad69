#pragma once

#include "framework/core/buffer.hpp"
#include "framework/core/clock.hpp"
#include "framework/core/expected.hpp"

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

namespace isthmus {

/// The sending half of a link's bulk path: cuts messages into chunks and holds them back so that no more than a window of bytes is
/// unacknowledged. Decides only; whoever asks next() does the sending.
class bulk_sender {
public:
  bulk_sender(std::size_t chunk_bytes, std::size_t window_bytes);

  /// From now on; at least one chunk. What is under way stays so.
  void set_window(std::size_t bytes);
  std::size_t window() const { return window_bytes_; }
  /// Queues a message; `id` is the caller's name for it.
  void push(std::uint64_t id, shared_bytes header, shared_bytes payload);

  struct chunk {
    std::uint64_t transfer, offset;
    std::size_t bytes;
    shared_bytes header, payload;  // of the whole message
  };
  /// The next chunk to send, none while the window is full or nothing waits.
  std::optional<chunk> next(time_point now);

  struct settled {
    std::uint64_t id, bytes;
    duration took;  // since its first chunk left
  };
  /// The peer holds the chunk. A value when that was the message's last. Errors: malformed (a chunk that is not under way).
  expected<std::optional<settled>> acknowledge(std::uint64_t transfer, std::uint64_t offset, time_point now);

  /// Ids of all messages that have not settled, which are forgotten.
  std::vector<std::uint64_t> abandon();
  std::uint64_t bytes_in_flight() const { return in_flight_; }
  /// Since when an acknowledgement is owed without one having come; none when nothing is under way.
  std::optional<time_point> waits_since() const;

private:
  struct message {
    std::uint64_t id;
    shared_bytes header, payload;
    std::uint64_t sent = 0;  // bytes handed out
    bool begun = false;
    time_point first_sent{};
    std::map<std::uint64_t, std::size_t> under_way;  // offset -> bytes
    bool all_sent() const { return begun && sent == payload->size(); }
  };
  std::size_t chunk_bytes_, window_bytes_;
  std::uint64_t next_serial_ = 1, in_flight_ = 0, chunks_under_way_ = 0;
  std::map<std::uint64_t, message> messages_;  // by serial
  std::deque<std::uint64_t> waiting_;          // serials with bytes to hand out, oldest first
  time_point last_progress_{};
};

}  // namespace isthmus
