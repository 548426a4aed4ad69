#pragma once

#include "framework/transport/identity.hpp"
#include "framework/transport/transcript.hpp"

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace isthmus {

/// The key pair of one handshake, drawn for it and wiped after it.
struct ephemeral {
  secret key;
  public_key name{};
  static ephemeral draw();
  static ephemeral of(secret key);
};

/// What both ends of a handshake know at its end, as seen from one of them.
struct link_secrets {
  secret control_out, control_in, bulk_out, bulk_in;
};

inline constexpr std::size_t stream_header_bytes = 24;
using stream_header = std::array<std::byte, stream_header_bytes>;

inline constexpr std::size_t hello_bytes = 72, answer_bytes = 72, confirm_bytes = 40;
inline constexpr std::size_t handshake_bytes_max = 72;

/// The dialling end: hello -> answer -> confirm (docs/wire.md: layouts, what is proven when). Pattern IK of the Noise framework, the
/// caller's static key being named by its site in the roster. Borrows the keys.
class caller {
public:
  caller(const link_keys& keys, const std::string& run_id, site_id self, site_id peer, ephemeral mine = ephemeral::draw());
  /// The first message. Errors: refused (the roster has no key for the peer).
  expected<std::vector<std::byte>> hello();
  /// The peer is who the roster says, and is there now. Gives the header of its stream. Errors: refused.
  expected<stream_header> take_answer(std::span<const std::byte> bytes);
  /// After take_answer.
  link_secrets secrets() const;
  /// The last message: with it, the peer knows the same of us.
  std::vector<std::byte> confirm(const stream_header& ours);

private:
  const link_keys& keys_;
  site_id self_;
  std::optional<public_key> theirs_;
  ephemeral mine_;
  transcript said_;
};

/// The accepting end. Who calls is known after take_hello, and proven after take_confirm only: a hello can be a replay.
class answerer {
public:
  answerer(const link_keys& keys, const std::string& run_id, site_id self);
  /// Errors: malformed (not a hello of ours), refused (another key or run, a site that the roster does not have, tampered with). Nothing
  /// must be told to the peer then.
  expected<void> take_hello(std::span<const std::byte> bytes, ephemeral mine = ephemeral::draw());
  site_id peer() const { return peer_; }
  /// After take_hello.
  link_secrets secrets() const;
  std::vector<std::byte> answer(const stream_header& ours);
  /// Gives the header of the peer's stream. Errors: refused.
  expected<stream_header> take_confirm(std::span<const std::byte> bytes);

private:
  const link_keys& keys_;
  site_id peer_ = 0;
  public_key mine_{};
  transcript said_;
};

}  // namespace isthmus
