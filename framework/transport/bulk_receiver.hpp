#pragma once

#include "framework/core/buffer.hpp"
#include "framework/core/clock.hpp"
#include "framework/core/expected.hpp"
#include "framework/transport/chunk_header.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

namespace isthmus {

/// The receiving half of a link's bulk path: puts chunks, which may come in any order, together in one buffer a message. All numbers
/// come from a stranger: caps hold before memory is taken, and no byte is written twice.
class bulk_receiver {
public:
  static constexpr std::uint64_t unfinished_max = 1024;  // messages

  bulk_receiver(std::size_t transfer_bytes_max, std::size_t incoming_bytes_max)
      : transfer_bytes_max_(transfer_bytes_max), incoming_bytes_max_(incoming_bytes_max) {}

  struct place {
    std::byte* to;
    std::shared_ptr<buffer> owner;  // keep it until the bytes are there
  };
  /// Where a chunk's bytes go. Errors: too_large, malformed (contradicts an earlier chunk, or comes twice).
  expected<place> begin(const chunk_header& h, time_point now);

  struct arrived {
    shared_bytes header, payload;
  };
  /// The bytes of one begun chunk are in place. A value when the message is whole.
  std::optional<arrived> finish(std::uint64_t transfer, time_point now);

  /// Since when unfinished messages have waited for a chunk; none when there are none.
  std::optional<time_point> waits_since() const;

private:
  struct message {
    std::shared_ptr<buffer> payload;
    shared_bytes header;  // null until the first chunk is there
    std::uint32_t chunk_bytes = 0;
    std::vector<bool> begun;    // by chunk
    std::uint64_t missing = 0;  // chunks that are not in place
  };
  expected<message*> message_of(const chunk_header& h);

  std::size_t transfer_bytes_max_, incoming_bytes_max_;
  std::uint64_t incoming_bytes_ = 0, highest_ = 0;
  std::map<std::uint64_t, message> messages_;  // unfinished, by transfer
  std::set<std::uint64_t> finished_;           // of the last unfinished_max serials
  time_point last_progress_{};
};

}  // namespace isthmus
