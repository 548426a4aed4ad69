#pragma once

#include "framework/codecs/codec.hpp"

#include <bit>
#include <cstring>

/// The parts that the codecs' frames share. Numbers are little endian; docs/codecs.md.
namespace isthmus {

static_assert(std::endian::native == std::endian::little, "frames are copied from memory as they lie there");

enum class codec_id : std::uint16_t {
  none = 1,
  int8 = 2,
  sparse_loco = 3,
  sparse_union = 4,
  first_own = 0x8000
};                                                     // from there on users' own
inline constexpr std::size_t frame_header_bytes = 16;  // "ISCF", u16 codec, u16 version = 1, u64 floats of the group

/// Contributions stay below limit_up, so that the sum of any number of sites stays below limit_down.
inline constexpr float limit_up = 0x1p64F, limit_down = 0x1p96F;

inline std::uint32_t magnitude(float x) { return std::bit_cast<std::uint32_t>(x) & 0x7fffffffU; }

template <class T>
void append(std::vector<std::byte>& frame, std::span<const T> values) {
  const std::size_t at = frame.size();
  frame.resize(at + values.size_bytes());
  if (!values.empty()) std::memcpy(frame.data() + at, values.data(), values.size_bytes());
}
template <class T>
void append(std::vector<std::byte>& frame, const T& value) {
  append(frame, std::span<const T>(&value, 1));
}

/// A frame with its header, and room for `reserve` bytes of payload.
std::vector<std::byte> begin_frame(codec_id id, const group_shape& group, std::size_t reserve);

/// Reads a frame from its front to its end, never past it. Errors name the place in the frame.
class frame_reader {
public:
  explicit frame_reader(std::span<const std::byte> frame) : frame_(frame) {}
  /// Checks the header against the codec and the group.
  expected<void> header(codec_id id, const group_shape& group);
  /// The next bytes, or errc::truncated.
  expected<std::span<const std::byte>> take(std::size_t bytes, const char* what);
  /// What is not yet read.
  std::span<const std::byte> rest() const { return frame_.subspan(at_); }
  /// Copies the next numbers; magnitudes over the limit are not_finite or out_of_range.
  expected<void> floats(std::span<float> out, float limit, const char* what);
  /// errc::malformed when bytes are left over.
  expected<void> end() const;
  /// An error about what was read last.
  unexpected bad(errc code, const char* what, const std::string& found) const;

private:
  std::span<const std::byte> frame_;
  std::size_t at_ = 0;
};

/// The bytes as numbers: where they lie, or in `copy` when they are not aligned. bytes.size() is a multiple of 4.
std::span<const float> as_floats(std::span<const std::byte> bytes, std::vector<float>& copy);

/// not_finite or out_of_range where a magnitude passes the limit.
errc judge_magnitude(std::uint32_t bits, float limit);

/// Throws contract_error when the encoder was given a number that frames may not carry.
void ensure_magnitude(std::uint32_t bits, float limit);

}  // namespace isthmus
