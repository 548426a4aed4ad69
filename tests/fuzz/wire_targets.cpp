#include "framework/transport/chunk_header.hpp"
#include "framework/transport/control_connection.hpp"
#include "framework/transport/greeting.hpp"
#include "framework/wire/frame.hpp"
#include "tests/fuzz/targets.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sys/socket.h>

namespace isthmus::fuzz {

void must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

namespace {

bool same_bytes(input a, input b) { return std::ranges::equal(a, b); }

/// The frame says whose it is: the reader's checks of origin and run are met, so that its body is looked at.
void read_as_sent(input bytes) {
  const auto frame = wire::read_frame(bytes);
  if (!frame) return;
  const auto written = wire::write_frame(*frame);
  const auto again = wire::read_frame(written);
  must(again.has_value(), "a frame that was read is written and read again");
  must(same_bytes(written, wire::write_frame(*again)), "and is the same then");
}

}  // namespace

/// First byte: how many words of 8 bytes the header has on the bulk path; 0: the control path.
void frames(input bytes) {
  if (bytes.empty()) return;
  const wire::framer reader("fuzz", {1, 1});
  const auto header_bytes = std::min(std::size_t{8} * std::to_integer<std::size_t>(bytes[0]), bytes.size() - 1);
  const auto rest = bytes.subspan(1);
  if (header_bytes == 0) {
    read_as_sent(rest);
    static_cast<void>(reader.unpack_control({3, 9}, rest));
  } else {
    read_as_sent(rest.first(header_bytes));
    static_cast<void>(reader.unpack_bulk({3, 9}, rest.first(header_bytes), make_shared_bytes(rest.subspan(header_bytes))));
  }
}

void greetings(input bytes) {
  if (const auto g = read_greeting(bytes, wire::version)) {
    static_cast<void>(check_greeting({"fuzz", wire::version, {1, 2}, 1, 1}, *g));
    const auto written = write_greeting(*g);
    const auto again = read_greeting(written, wire::version);
    must(again.has_value() && same_bytes(written, write_greeting(*again)), "a greeting is written as it was read");
  }
  const auto reason = read_reason(bytes);
  must(wire::is_utf8(reason.message), "a peer's words are UTF-8 when we have read them");
  int ends[2];
  must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0, "a pair of sockets");
  control_connection ours(ends[0]);
  control_connection theirs(ends[1]);
  static_cast<void>(::send(ends[1], bytes.data(), std::min<std::size_t>(bytes.size(), 32 << 10), MSG_NOSIGNAL));
  theirs.shut_down();
  for (;;) {
    const auto filled = ours.fill();
    for (;;) {
      const auto frame = ours.read_frame(64 << 10);
      if (!frame) return;
      if (!*frame) break;
      must((*frame)->body.size() <= 64 << 10, "a frame's body is within its cap");
    }
    if (!filled || !*filled) return;
  }
}

void chunks(input bytes) {
  const auto header = read_chunk_header(bytes);
  if (!header) return;
  must(header->length() <= header->chunk_bytes && header->offset + header->length() <= header->total_bytes,
       "a chunk lies inside its message");
  must(same_bytes(bytes, write_chunk_header(*header)), "a chunk's header has one form");
}

void bulk_frames(input bytes) {
  const auto frame = read_bulk_frame(bytes);
  if (!frame) return;
  must(2 + frame->header.size() + frame->data.size() == bytes.size(), "a bulk frame is its header and its data");
  std::vector<std::byte> again(bytes.size());
  std::copy(frame->data.begin(), frame->data.end(), again.begin() + static_cast<std::ptrdiff_t>(write_bulk_front(frame->header, again)));
  must(same_bytes(bytes, again), "a bulk frame has one form");
  chunks(frame->header);
}

}  // namespace isthmus::fuzz
