#include "framework/formats/gguf_cursor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in files");

namespace isthmus {

namespace {
constexpr std::uint64_t window_bytes = 1 << 20;
}

unexpected gguf_cursor::bad(errc code, const std::string& what) const {
  return fail(code, fmt::format("{}: byte {}: {}", source_.where(), at_, what));
}

unexpected gguf_cursor::past_the_end(const char* what, std::uint64_t count, std::uint64_t item_bytes) const {
  if (source_.size() > limit_)
    return bad(errc::too_large,
               fmt::format("{}: {} of {} bytes go past the first {} bytes, in which metadata must lie", what, count, item_bytes, limit_));
  return bad(errc::truncated,
             fmt::format("{}: {} of {} bytes go past the end, the file has {} bytes", what, count, item_bytes, source_.size()));
}

expected<void> gguf_cursor::refill(std::size_t bytes, const char* what) {
  if (bytes > left()) return past_the_end(what, 1, bytes);
  window_.resize(std::min(std::max<std::uint64_t>(bytes, window_bytes), left()));
  window_at_ = at_;
  return source_.read(at_, window_);
}

expected<std::string> gguf_cursor::text(const char* what, std::uint64_t bytes_max) {
  const auto bytes = number<std::uint64_t>(what);
  if (!bytes) return bytes.failure();
  if (*bytes > bytes_max) return bad(errc::too_large, fmt::format("{}: {} bytes long, at most {} allowed", what, *bytes, bytes_max));
  if (*bytes > left()) return past_the_end(what, *bytes, 1);
  std::string value(*bytes, '\0');
  if (*bytes > 0)
    if (auto ok = take(value.data(), value.size(), what); !ok) return ok.failure();
  return value;
}

}  // namespace isthmus
