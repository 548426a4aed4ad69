#include "framework/layers/layer_state.hpp"

#include <algorithm>
#include <utility>

namespace isthmus {

void state_part::grow(std::int64_t count) {
  const std::size_t wanted = bytes.size() + static_cast<std::size_t>(count) * row_bytes;
  if (wanted > bytes.capacity()) bytes.reserve(std::max(wanted, bytes.capacity() * 2));
  bytes.resize(wanted);
}

void state_part::drop_unseen(std::int64_t position) {
  if (window == 0) return;
  const std::int64_t from = std::max<std::int64_t>(0, (position + 1) / window - 1) * window;
  if (from <= first) return;
  const auto unseen = bytes.begin() + (from - first) * static_cast<std::int64_t>(row_bytes);
  const std::size_t enough = 2 * static_cast<std::size_t>(window) * row_bytes;
  if (bytes.capacity() > enough) {  // a long prompt came at once: its memory goes back
    std::vector<std::byte> seen;
    seen.reserve(enough);
    seen.assign(unseen, bytes.end());
    bytes = std::move(seen);
  } else {
    bytes.erase(bytes.begin(), unseen);
  }
  first = from;
}

}  // namespace isthmus
