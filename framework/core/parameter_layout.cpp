#include "framework/core/parameter_layout.hpp"

#include "framework/core/error.hpp"

#include <algorithm>

namespace isthmus {

namespace {
constexpr std::int64_t alignment = 16;  // floats: one cache line
std::int64_t aligned(std::int64_t n) { return (n + alignment - 1) / alignment * alignment; }
}  // namespace

void parameter_layout::add(std::string name, std::vector<std::int64_t> shape, bool decays) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    ensure(extent > 0, "parameter_layout: an extent is not positive");
    count *= extent;
  }
  slots.push_back({std::move(name), std::move(shape), size, count, decays});
  size = aligned(size + count);
}

std::int64_t parameter_layout::parameter_count() const {
  std::int64_t sum = 0;
  for (const auto& slot : slots) sum += slot.count;
  return sum;
}

std::vector<group_shape> cut_groups(const parameter_layout& layout, std::uint32_t count) {
  ensure(count > 0, "cut_groups: no groups asked for");
  std::vector<group_shape> groups;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < layout.slots.size(); ++i) {
    const auto& slot = layout.slots[i];
    const std::int64_t end = i + 1 < layout.slots.size() ? layout.slots[i + 1].offset : layout.size;
    if (groups.empty() || slot.offset == begin) { groups.push_back({static_cast<std::uint32_t>(groups.size()), slot.offset, 0, {}}); }
    auto& group = groups.back();
    group.tensors.push_back({slot.offset - group.offset, slot.count});
    group.size = end - group.offset;
    // Close this group at the boundary nearest to its fair end.
    const std::int64_t fair_end = layout.size * static_cast<std::int64_t>(groups.size()) / count;
    const std::int64_t next_end = i + 2 < layout.slots.size() ? layout.slots[i + 2].offset : layout.size;
    if (groups.size() < count && (end >= fair_end || next_end - fair_end > fair_end - end)) begin = end;
  }
  return groups;
}

}  // namespace isthmus
