#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace isthmus {

/// A set of positions as disjoint, non-touching ranges.
class range_set {
public:
  struct range {
    std::uint64_t begin = 0, end = 0;
    bool operator==(const range&) const = default;
  };
  void add(std::uint64_t begin, std::uint64_t end);
  void remove(std::uint64_t begin, std::uint64_t end);
  void add(const range_set& other);
  void remove(const range_set& other);
  /// The part inside [begin, end).
  range_set within(std::uint64_t begin, std::uint64_t end) const;
  range_set intersect(const range_set& other) const;
  bool empty() const { return ranges_.empty(); }
  std::uint64_t size() const { return size_; }  // positions
  std::vector<range> ranges() const;            // ascending
  /// The first at most `count` positions, taken out.
  range_set take(std::uint64_t count);
  bool operator==(const range_set&) const = default;

private:
  std::map<std::uint64_t, std::uint64_t> ranges_;  // begin -> end
  std::uint64_t size_ = 0;
};

}  // namespace isthmus
