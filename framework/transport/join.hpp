#pragma once

#include "framework/core/expected.hpp"
#include "framework/transport/identity.hpp"
#include "framework/transport/transcript.hpp"

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

/// How a process that is in nobody's roster yet gets there: it shows a one-use token to whom the token names, sealed to that one's public
/// key (pattern NK of the Noise framework, without a static key of the caller; docs/wire.md). Either message has one length.
inline constexpr std::size_t join_request_bytes = 4 + 32 + 64 + 16, join_answer_bytes = 256 + 16;

/// BLAKE2b of a token, all that is kept of it where it was made.
using token_hash = std::array<std::byte, 32>;
token_hash hash_of_token(const secret& token);

secret draw_token();
/// 64 hexadecimal digits.
std::string token_text(const secret& token);
/// Errors: malformed.
expected<secret> parse_token(std::string_view hex);

/// The newcomer's side.
class join_caller {
public:
  /// desk: the public key of whom the token names; newcomer: ours, to be entered; once: drawn for this request.
  join_caller(const std::string& run_id, const public_key& desk, const secret& token, const public_key& newcomer,
              const identity& once = identity::generate());
  /// Empty when `desk` is no key.
  const std::vector<std::byte>& request() const { return request_; }
  /// Errors: refused, in the other's words; malformed; checksum_mismatch (not of whom the token names).
  expected<void> read_answer(std::span<const std::byte> bytes);

private:
  transcript said_;
  std::vector<std::byte> request_;
};

/// The side that made the token.
class join_desk {
public:
  struct claim {
    token_hash token;
    public_key newcomer;
  };
  join_desk(const identity& own, const std::string& run_id);
  /// A stranger's bytes. Errors: malformed, checksum_mismatch: there is no answer then.
  expected<claim> read(std::span<const std::byte> request);
  /// What became of the claim; a text of at most 250 bytes is told.
  std::vector<std::byte> answer(const expected<void>& outcome);

private:
  const identity& own_;
  transcript said_;
};

}  // namespace isthmus
