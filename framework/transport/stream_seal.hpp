#pragma once

#include "framework/transport/handshake.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace isthmus {

/// Both directions of a control channel after its handshake: libsodium's secretstream, which notices what is changed, reordered,
/// doubled or left out, and whose last frame is marked, so that a stream that was cut is told from one that ended.
class stream_seal {
public:
  static constexpr std::size_t overhead = 17;                            // bytes a frame
  static constexpr std::uint64_t rekey_after = std::uint64_t{64} << 20;  // bytes sealed with one key

  /// Begins our stream with a header that is drawn.
  explicit stream_seal(const secret& out_key);
  ~stream_seal();
  stream_seal(const stream_seal&) = delete;
  stream_seal& operator=(const stream_seal&) = delete;

  const stream_header& header() const { return header_; }
  /// Begins the peer's.
  void begin_reading(const secret& in_key, const stream_header& theirs);

  /// Appends plain.size() + overhead bytes to out; front: what goes before them in the clear. Nothing may follow the last frame.
  void seal(std::span<const std::byte> front, std::span<const std::byte> plain, bool is_last, std::vector<std::byte>& out);
  /// The frame's bytes, until the next call. Errors: checksum_mismatch (does not open), malformed (follows the last one): the stream is
  /// of no use after that.
  expected<std::span<const std::byte>> open(std::span<const std::byte> front, std::span<const std::byte> sealed);
  bool has_written_last() const { return wrote_last_; }
  bool has_read_last() const { return read_last_; }

private:
  struct states;
  std::unique_ptr<states> states_;
  stream_header header_{};
  std::uint64_t sealed_ = 0;  // since the last change of key
  bool wrote_last_ = false, read_last_ = false;
  std::vector<std::byte> opened_;
};

}  // namespace isthmus
