#include "framework/recipe/nearest.hpp"

#include <algorithm>

namespace isthmus {

namespace {

/// Optimal string alignment distance.
std::size_t edits(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before, last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = last;
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string nearest_name(std::string_view wanted, const std::vector<std::string>& names) {
  if (wanted.empty() || wanted.size() > 100) return {};
  std::string best;
  std::size_t best_edits = std::max<std::size_t>(2, wanted.size() / 3) + 1;
  for (const auto& name : names) {
    // A name that only lacks its unit ("heartbeat" for "heartbeat_ms") is meant whatever its length.
    const bool prefix = wanted.size() >= 4 && name.size() > wanted.size() && name.starts_with(wanted) && name[wanted.size()] == '_';
    const auto distance = prefix ? 1 : edits(wanted, name);
    if (distance < best_edits && distance < wanted.size()) {
      best = name;
      best_edits = distance;
    }
  }
  return best;
}

}  // namespace isthmus
