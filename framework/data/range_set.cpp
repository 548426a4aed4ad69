#include "framework/data/range_set.hpp"

#include "framework/core/error.hpp"

#include <algorithm>
#include <iterator>

namespace isthmus {

void range_set::add(std::uint64_t begin, std::uint64_t end) {
  ensure(begin <= end, "range_set: begin past end");
  if (begin == end) return;
  remove(begin, end);
  size_ += end - begin;
  auto after = ranges_.lower_bound(begin);
  if (after != ranges_.end() && after->first == end) {
    end = after->second;
    after = ranges_.erase(after);
  }
  if (after != ranges_.begin() && std::prev(after)->second == begin)
    std::prev(after)->second = end;
  else
    ranges_.emplace_hint(after, begin, end);
}

void range_set::remove(std::uint64_t begin, std::uint64_t end) {
  ensure(begin <= end, "range_set: begin past end");
  auto at = ranges_.upper_bound(begin);
  if (at != ranges_.begin() && std::prev(at)->second > begin) --at;
  while (begin < end && at != ranges_.end() && at->first < end) {
    const auto [first, last] = *at;
    at = ranges_.erase(at);
    if (first < begin) ranges_.emplace(first, begin);
    if (last > end) at = ranges_.emplace(end, last).first;
    size_ -= std::min(last, end) - std::max(first, begin);
  }
}

void range_set::add(const range_set& other) {
  for (const auto& [begin, end] : other.ranges_) add(begin, end);
}

void range_set::remove(const range_set& other) {
  for (const auto& [begin, end] : other.ranges_) remove(begin, end);
}

range_set range_set::within(std::uint64_t begin, std::uint64_t end) const {
  range_set inside;
  auto at = ranges_.upper_bound(begin);
  if (at != ranges_.begin()) --at;
  for (; at != ranges_.end() && at->first < end; ++at) {
    const std::uint64_t first = std::max(at->first, begin), last = std::min(at->second, end);
    if (first < last) inside.add(first, last);
  }
  return inside;
}

range_set range_set::intersect(const range_set& other) const {
  range_set both;
  for (const auto& [begin, end] : other.ranges_) both.add(within(begin, end));
  return both;
}

std::vector<range_set::range> range_set::ranges() const {
  std::vector<range> out;
  for (const auto& [begin, end] : ranges_) out.push_back({begin, end});
  return out;
}

range_set range_set::take(std::uint64_t count) {
  range_set taken;
  while (taken.size() < count && !ranges_.empty()) {
    const auto [begin, last] = *ranges_.begin();
    const std::uint64_t end = begin + std::min(last - begin, count - taken.size());
    taken.add(begin, end);
    remove(begin, end);
  }
  return taken;
}

}  // namespace isthmus
