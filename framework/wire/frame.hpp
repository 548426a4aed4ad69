#pragma once

#include "framework/core/expected.hpp"
#include "framework/wire/wire.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// One frame as a value; its bytes are a Cap'n Proto message of one segment (frame.capnp).
namespace isthmus::wire {

struct frame {
  std::uint32_t version = 0;
  std::uint64_t run_tag = 0;
  frame_origin from;
  std::uint64_t payload_bytes = 0;  // what follows the header on the bulk path, a body in front included
  std::uint32_t body_in_front = 0;  // > 0: the body did not fit the header; a frame of that many bytes in front of the payload has it
  peer_message body = message::beat{};
};

/// Writes as it is; see framer::encode for what must hold.
std::vector<std::byte> write_frame(const frame& f);

/// Reads and checks each field. `bytes` needs no alignment.
expected<frame> read_frame(std::span<const std::byte> bytes);

/// True when the bytes are UTF-8 as Unicode 15 table 3-7 defines it (no surrogates, no overlong forms) without NUL.
bool is_utf8(std::string_view text);

/// At most bytes_max bytes of the text, cut between characters; a byte that is no UTF-8 becomes '?'.
std::string clipped_utf8(std::string_view text, std::size_t bytes_max);

}  // namespace isthmus::wire
