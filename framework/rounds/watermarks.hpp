#pragma once

#include "framework/rounds/messages.hpp"

#include <span>
#include <vector>

namespace isthmus {

/// Appends leases to others and joins those that touch: sorted by shard and begin, disjoint. Overlaps are joined too.
std::vector<lease> joined(std::span<const lease> a, std::span<const lease> b);

/// The positions of `a` that are not in `b`, in the same form.
std::vector<lease> without(std::span<const lease> a, std::span<const lease> b);

/// Per site the last step that a committed record of one group names, with all tokens and leases of that site that this group's history
/// has taken so far, and how the site stands with the group's homes. Equal at every site that stands at the same round.
class watermark_table {
public:
  watermark_table() = default;
  explicit watermark_table(std::vector<contributor> entries);
  void apply(const round_record& record);
  /// Step 0 and no leases for a site without committed contributions.
  contributor of(site_id site) const;
  /// In site order.
  const std::vector<contributor>& entries() const { return entries_; }

private:
  std::vector<contributor> entries_;
};

}  // namespace isthmus
