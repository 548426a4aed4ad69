#include "framework/transport/control_connection.hpp"

#include "framework/transport/stream_seal.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace isthmus {

namespace {

constexpr std::size_t prefix_bytes = 4, compact_bytes = 1U << 20;

std::uint32_t little_endian(const std::byte* p) {
  return static_cast<std::uint32_t>(p[0]) | static_cast<std::uint32_t>(p[1]) << 8 | static_cast<std::uint32_t>(p[2]) << 16 |
         static_cast<std::uint32_t>(p[3]) << 24;
}

/// After these the sender says nothing.
bool is_last(control_kind kind) { return kind == control_kind::refusal || kind == control_kind::goodbye || kind == control_kind::closing; }

/// The four bytes as they would read, when somebody speaks text to us.
std::string as_text(const std::byte* p) {
  std::string text;
  for (std::size_t i = 0; i < prefix_bytes; ++i) {
    const char c = static_cast<char>(p[i]);
    if (c < 0x20 || c > 0x7e) return "";
    text += c;
  }
  return " (as text: '" + text + "')";
}

}  // namespace

control_connection::control_connection(int socket) : socket_(socket) {}

control_connection::~control_connection() { ::close(socket_); }

void control_connection::seal(std::unique_ptr<stream_seal> with) { seal_ = std::move(with); }

void control_connection::write_frame(control_kind kind, std::span<const std::byte> body) {
  if (seal_ && seal_->has_written_last()) return;
  if (out_sent_ == out_.size()) {
    out_.clear();
    out_sent_ = 0;
  }
  const auto length = static_cast<std::uint32_t>(body.size() + 1 + (seal_ ? stream_seal::overhead : 0));
  std::array<std::byte, prefix_bytes> prefix;
  for (unsigned i = 0; i < prefix_bytes; ++i) prefix[i] = static_cast<std::byte>(length >> (8 * i));
  out_.insert(out_.end(), prefix.begin(), prefix.end());
  if (seal_) {
    std::vector<std::byte> plain{static_cast<std::byte>(kind)};
    plain.insert(plain.end(), body.begin(), body.end());
    return seal_->seal(prefix, plain, is_last(kind), out_);
  }
  out_.push_back(static_cast<std::byte>(kind));
  out_.insert(out_.end(), body.begin(), body.end());
}

std::span<std::byte> control_connection::reserve_open_frame(control_kind kind, std::size_t body_bytes) {
  seal_.reset();
  if (out_sent_ == out_.size()) {
    out_.clear();
    out_sent_ = 0;
  } else if (out_sent_ >= compact_bytes) {
    out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(std::exchange(out_sent_, 0)));
  }
  const auto length = static_cast<std::uint32_t>(body_bytes + 1);
  for (unsigned i = 0; i < prefix_bytes; ++i) out_.push_back(static_cast<std::byte>(length >> (8 * i)));
  out_.push_back(static_cast<std::byte>(kind));
  out_.resize(out_.size() + body_bytes);
  return std::span(out_).last(body_bytes);
}

expected<void> control_connection::flush() {
  while (wants_to_write()) {
    const ssize_t n = ::send(socket_, out_.data() + out_sent_, out_.size() - out_sent_, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (n < 0) return fail(errc::disconnected, std::string("the connection failed: ") + std::strerror(errno));
    out_sent_ += static_cast<std::size_t>(n);
    bytes_out_ += static_cast<std::uint64_t>(n);
  }
  return {};
}

expected<bool> control_connection::fill(std::size_t buffered_bytes_max) {
  if (in_read_ > 0) {
    in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(in_read_));
    in_read_ = 0;
  }
  std::array<std::byte, 65536> chunk;
  const std::size_t most = std::min(chunk.size(), buffered_bytes_max - std::min(buffered_bytes_max, in_.size()));
  if (most == 0) return false;
  for (;;) {
    const ssize_t n = ::recv(socket_, chunk.data(), most, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (n < 0) return fail(errc::disconnected, std::string("the connection failed: ") + std::strerror(errno));
    if (n == 0 && seal_ && !seal_->has_read_last())
      return fail(errc::disconnected, "the connection was cut: its last frame is not the end of a sealed stream");
    if (n == 0) return fail(errc::disconnected, "the peer closed the connection");
    in_.insert(in_.end(), chunk.begin(), chunk.begin() + n);
    bytes_in_ += static_cast<std::uint64_t>(n);
    return true;
  }
}

expected<std::optional<control_frame>> control_connection::read_sealed_frame(std::size_t body_bytes_max) {
  const std::span<const std::byte> rest = std::span(in_).subspan(in_read_);
  if (rest.size() < prefix_bytes) return std::optional<control_frame>();
  const std::uint32_t length = little_endian(rest.data());
  constexpr std::size_t least = stream_seal::overhead + 1;
  if (length < least || length - least > body_bytes_max)
    return fail(length < least ? errc::malformed : errc::too_large, "control frame: a length of " + std::to_string(length) + "; sealed, " +
                                                                        std::to_string(least) + " to " +
                                                                        std::to_string(body_bytes_max + least) + " are allowed here");
  if (rest.size() < prefix_bytes + length) return std::optional<control_frame>();
  const auto plain = seal_->open(rest.first(prefix_bytes), rest.subspan(prefix_bytes, length));
  if (!plain) return plain.failure();
  in_read_ += prefix_bytes + length;
  const auto kind = static_cast<std::uint8_t>(plain->front());
  if (kind == 0 || kind > control_kind_last) return fail(errc::malformed, "control frame: unknown kind " + std::to_string(kind));
  if (is_last(static_cast<control_kind>(kind)) != seal_->has_read_last())
    return fail(errc::malformed, "control frame: kind " + std::to_string(kind) + " and its mark of the last frame contradict each other");
  return std::optional(control_frame{static_cast<control_kind>(kind), plain->subspan(1)});
}

expected<std::optional<control_frame>> control_connection::read_frame(std::size_t body_bytes_max) {
  if (seal_) return read_sealed_frame(body_bytes_max);
  const std::span<const std::byte> rest = std::span(in_).subspan(in_read_);
  if (rest.size() < prefix_bytes) return std::optional<control_frame>();
  const std::uint32_t length = little_endian(rest.data());
  if (length == 0) return fail(errc::malformed, "control frame: its length is 0");
  if (length - 1 > body_bytes_max)
    return fail(errc::too_large, "control frame: a length of " + std::to_string(length) + as_text(rest.data()) + "; at most " +
                                     std::to_string(body_bytes_max + 1) + " is allowed here");
  if (rest.size() > prefix_bytes) {
    const auto kind = static_cast<std::uint8_t>(rest[prefix_bytes]);
    if (kind == 0 || kind > control_kind_last) return fail(errc::malformed, "control frame: unknown kind " + std::to_string(kind));
  }
  if (rest.size() < prefix_bytes + length) return std::optional<control_frame>();
  in_read_ += prefix_bytes + length;
  return std::optional(control_frame{static_cast<control_kind>(rest[prefix_bytes]), rest.subspan(prefix_bytes + 1, length - 1)});
}

void control_connection::shut_down() { ::shutdown(socket_, SHUT_WR); }

}  // namespace isthmus
