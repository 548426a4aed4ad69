#pragma once

#include "actors/messages.hpp"

#include <cstdint>
#include <map>

namespace isthmus::actors {

/// Cuts [0, total) into one contiguous part a device, as even as whole `unit`s allow.
inline std::map<std::uint32_t, row_range> spread(const std::map<std::uint32_t, caf::actor>& devices, std::int64_t total,
                                                 std::int64_t unit = 1) {
  std::map<std::uint32_t, row_range> parts;
  const auto n = static_cast<std::int64_t>(devices.size());
  std::int64_t i = 0;
  for (const auto& [index, handle] : devices) {
    const auto edge = [&](std::int64_t k) { return k == n ? total : total * k / n / unit * unit; };
    const row_range part{edge(i), edge(i + 1)};
    if (part.end > part.begin) parts.emplace(index, part);
    ++i;
  }
  return parts;
}

}  // namespace isthmus::actors
