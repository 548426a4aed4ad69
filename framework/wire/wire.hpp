#pragma once

#include "framework/core/buffer.hpp"
#include "framework/core/expected.hpp"
#include "framework/rounds/messages.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

/// Messages between sites as bytes (docs/wire.md). Everything that comes from a peer is a stranger's bytes: it is checked whole, with
/// caps before every allocation, before a message comes out.
namespace isthmus::wire {

/// Raised with every change of the schema that an older reader would misread.
inline constexpr std::uint32_t version = 5;
inline constexpr std::size_t header_bytes_max = 1024;       // of a bulk message
inline constexpr std::size_t control_bytes_max = 1U << 20;  // of a control message
inline constexpr std::size_t body_bytes_max = 8U << 20;     // of a bulk message's body that did not fit its header

inline constexpr std::size_t members_max = 4096;     // of an epoch; contributors of a record
inline constexpr std::size_t groups_max = 8192;      // in cuts and held records
inline constexpr std::size_t audits_max = 4096;      // of a record
inline constexpr std::size_t leases_max = 65536;     // of a contributor
inline constexpr std::size_t text_bytes_max = 1024;  // of a reason
inline constexpr std::size_t name_bytes_max = 128;   // of an actor

/// Who sent a frame.
struct frame_origin {
  site_id site = 0;
  incarnation_number incarnation = 0;
  bool operator==(const frame_origin&) const = default;
};

/// What transport::send_control (header alone) or transport::send_bulk (header and payload) is given.
struct outgoing {
  bool bulk = false;
  shared_bytes header, payload;  // payload: null unless bulk
};

/// Sorted by (shard, begin), with touching ranges merged and empty ones dropped: the same samples in the fewest leases.
std::vector<lease> coalesced(std::vector<lease> leases);

/// True for messages with a payload, which travel on the bulk path: contribution, delta, state_part, to_actor.
bool is_bulk(const peer_message& m);

/// Makes and reads the frames of one run as one site. Each frame carries the wire version, a tag of the run, and its sender. Immutable:
/// any thread may use it.
class framer {
public:
  framer(std::string_view run_id, frame_origin self);

  /// One message as a frame. Reasons are clipped to text_bytes_max and made valid UTF-8, a contribution's leases are coalesced; lists
  /// past their caps are our own bug (contract_error).
  std::vector<std::byte> encode(const peer_message& m) const;
  /// `from`: who is at the other end of the link. Errors: truncated, malformed, too_large, wrong_version, wrong_run, refused (another
  /// site's frame), stale_incarnation, out_of_range, not_finite.
  expected<peer_message> decode(const frame_origin& from, std::span<const std::byte> frame) const;

  /// A message with its payload, ready to send. A bulk header stays within header_bytes_max: a body that would not fit travels in front
  /// of the payload (which costs a copy of it at both ends), and unpack_bulk takes it off again.
  outgoing pack(const envelope& e) const;
  expected<envelope> unpack_control(const frame_origin& from, std::span<const std::byte> frame) const;
  /// Also truncated when the payload is not as long as its header says.
  expected<envelope> unpack_bulk(const frame_origin& from, std::span<const std::byte> header, shared_bytes payload) const;

private:
  std::uint64_t run_tag_;
  frame_origin self_;
};

}  // namespace isthmus::wire
