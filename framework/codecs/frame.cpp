#include "framework/codecs/frame.hpp"

#include "framework/codecs/vector_ops.hpp"

#include <fmt/format.h>
#include <sys/mman.h>

namespace isthmus {

namespace {
constexpr char magic[4] = {'I', 'S', 'C', 'F'};
constexpr std::uint16_t version = 1;

/// Advises huge pages for what is reserved: to fault small ones in takes longer than to encode.
void advise_huge_pages(std::vector<std::byte>& frame) {
  constexpr std::uintptr_t huge_page = std::uintptr_t{2} << 20;
  const auto begin = (reinterpret_cast<std::uintptr_t>(frame.data()) + huge_page - 1) / huge_page * huge_page;
  const auto end = (reinterpret_cast<std::uintptr_t>(frame.data()) + frame.capacity()) / huge_page * huge_page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}
}  // namespace

std::vector<std::byte> begin_frame(codec_id id, const group_shape& group, std::size_t reserve) {
  std::vector<std::byte> frame;
  frame.reserve(frame_header_bytes + reserve);
  advise_huge_pages(frame);
  append(frame, std::span<const char>(magic));
  append(frame, id);
  append(frame, version);
  append(frame, static_cast<std::uint64_t>(group.size));
  return frame;
}

expected<void> frame_reader::header(codec_id id, const group_shape& group) {
  const auto bytes = take(frame_header_bytes, "header");
  if (!bytes) return bytes.failure();
  std::uint16_t codec_found = 0, version_found = 0;
  std::uint64_t size_found = 0;
  std::memcpy(&codec_found, bytes->data() + 4, 2);
  std::memcpy(&version_found, bytes->data() + 6, 2);
  std::memcpy(&size_found, bytes->data() + 8, 8);
  if (std::memcmp(bytes->data(), magic, 4) != 0) return fail(errc::malformed, "codec frame: does not begin with ISCF");
  if (codec_found != static_cast<std::uint16_t>(id)) {
    return fail(errc::unsupported, fmt::format("codec frame: written by codec {}, read by codec {}; all sites of a run need the same "
                                               "codec in their recipe",
                                               codec_found, static_cast<std::uint16_t>(id)));
  }
  if (version_found != version) {
    return fail(errc::unsupported, fmt::format("codec frame: version {}, this build reads version {}", version_found, version));
  }
  if (size_found != static_cast<std::uint64_t>(group.size)) {
    return fail(errc::malformed, fmt::format("codec frame: for a group of {} floats, group {} has {}", size_found, group.id, group.size));
  }
  return {};
}

expected<std::span<const std::byte>> frame_reader::take(std::size_t bytes, const char* what) {
  if (bytes > frame_.size() - at_) {
    return fail(errc::truncated, fmt::format("codec frame: {} at byte {} needs {} bytes, the frame of {} has {} left", what, at_, bytes,
                                             frame_.size(), frame_.size() - at_));
  }
  at_ += bytes;
  return frame_.subspan(at_ - bytes, bytes);
}

expected<void> frame_reader::floats(std::span<float> out, float limit, const char* what) {
  const auto bytes = take(out.size_bytes(), what);
  if (!bytes) return bytes.failure();
  if (!out.empty()) std::memcpy(out.data(), bytes->data(), bytes->size());
  const std::uint32_t largest = vector_ops::max_magnitude(out.data(), out.size());
  if (largest <= magnitude(limit)) return {};
  return bad(judge_magnitude(largest, limit), what,
             fmt::format("{}, allowed are magnitudes up to {}", std::bit_cast<float>(largest), limit));
}

expected<void> frame_reader::end() const {
  if (at_ == frame_.size()) return {};
  return fail(errc::malformed, fmt::format("codec frame: {} bytes follow its end at byte {}", frame_.size() - at_, at_));
}

unexpected frame_reader::bad(errc code, const char* what, const std::string& found) const {
  return fail(code, fmt::format("codec frame: {} before byte {}: {}", what, at_, found));
}

std::span<const float> as_floats(std::span<const std::byte> bytes, std::vector<float>& copy) {
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(float) == 0) {
    return {reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)};
  }
  copy.resize(bytes.size() / sizeof(float));
  std::memcpy(copy.data(), bytes.data(), bytes.size());
  return copy;
}

errc judge_magnitude(std::uint32_t bits, float limit) {
  if (bits <= magnitude(limit)) return errc::ok;
  return bits >= 0x7f800000U ? errc::not_finite : errc::out_of_range;
}

void ensure_magnitude(std::uint32_t bits, float limit) {
  ensure(bits <= magnitude(limit), "codec: a number to encode is not finite or beyond the codec's limit");
}

}  // namespace isthmus
