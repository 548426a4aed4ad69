#pragma once

#include "framework/core/expected.hpp"
#include "framework/data/range_set.hpp"
#include "framework/rounds/messages.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus {

/// A lease whose samples are in the committed records of some groups, but never will be in those of others.
struct partial_lease {
  lease range;
  std::vector<group_id> missed;  // ascending, not empty
  bool operator==(const partial_lease&) const = default;
};

/// What became of leases; for the ledger. Ranges ascend.
struct lease_settlement {
  std::vector<lease> committed, returned, written_off;
  std::vector<partial_lease> partial;
  bool empty() const { return committed.empty() && returned.empty() && written_off.empty() && partial.empty(); }
};

/// Positions so far. assigned = committed + partial + returned + written_off + outstanding, always. A position that was returned
/// and granted again counts twice in `assigned` and once in `returned`.
struct lease_totals {
  std::uint64_t assigned = 0, committed = 0, partial = 0, returned = 0, written_off = 0, outstanding = 0;
  bool operator==(const lease_totals&) const = default;
};

/// The sample accounts of one shard: which positions were handed out for which step, and what became of them. Knows neither actors nor
/// clocks. A position is outstanding until the record that names its step is committed for every group.
class lease_book {
public:
  /// samples > 0: leases never cross a pass (a multiple of it). groups > 0: parameter groups, numbered from 0.
  lease_book(std::uint32_t shard, std::uint64_t samples, std::uint32_t groups);

  /// Hands `positions` positions to one step: returned ones first, ascending, then new ones; the leases' sizes add up to
  /// `positions`. Steps must not fall below a step granted before.
  std::vector<lease> grant(std::uint64_t positions, step_number step);
  /// A record of `group` that reaches `watermark` was committed. Gives the leases that are now committed for every group. An older
  /// watermark changes nothing.
  lease_settlement commit(group_id group, step_number watermark);
  /// The same where that record vetoes what was made of these leases: no record of this group will ever have them. Once every group has
  /// decided, what all of them vetoed returns, and what some have is partial.
  lease_settlement veto(group_id group, step_number watermark, std::span<const lease> leases);
  /// The site's weights were lost after the watermarks (it restarts from anchors): what no group has returns; what some have is
  /// settled as partial and never trained again.
  lease_settlement crash();
  /// As crash, but the site stays away: what would return is written off.
  lease_settlement write_off();
  /// The records of `group` that named these leases are void (docs/rounds.md section 4, a restart), `watermark` is what is left of this
  /// site. What other groups' records still have is partial, what none has returns; what others may yet have stays outstanding.
  lease_settlement roll_back(group_id group, step_number watermark, std::span<const lease> leases);
  /// After from_json of another state than the records': one list a group of all leases that its committed records name. What this
  /// state believes beyond that (of records that became void) is corrected, and everything outstanding settles.
  lease_settlement recover(std::span<const std::vector<lease>> named);

  const lease_totals& totals() const { return totals_; }
  std::uint32_t shard() const { return shard_; }
  std::uint64_t samples() const { return samples_; }
  /// The first position never granted.
  std::uint64_t next_position() const { return next_; }
  step_number lowest_watermark() const;
  step_number highest_watermark() const;
  /// The leases granted for steps in (after, upto], ascending and joined: what a contribution names.
  std::vector<lease> granted(step_number after, step_number upto) const;
  /// Whether every position below next_position() is accounted for exactly once, and the totals balance.
  bool balanced() const;

  /// The whole state, for a checkpoint.
  std::string to_json() const;
  /// Errors name `where` and the value; a state that does not balance is refused.
  static expected<lease_book> from_json(std::string_view text, const std::string& where);
  bool operator==(const lease_book&) const = default;

private:
  friend class lease_book_reader;
  struct grant_entry {
    std::uint64_t begin = 0, end = 0;
    step_number step = 0;
    bool operator==(const grant_entry&) const = default;
  };
  std::vector<lease> as_leases(const range_set& ranges) const;
  std::vector<lease> settle_committed(const range_set& ranges);
  std::vector<lease> settle_returned(const range_set& ranges);
  std::vector<lease> settle_written_off(const range_set& ranges);
  void settle_partial(const range_set& ranges, const std::vector<group_id>& missed, lease_settlement& into);
  /// missed: by group, which of the positions its records do not have. Had by all: committed; by some: partial; by none: `site_returns`.
  lease_settlement settle_by_groups(const range_set& ranges, const std::vector<range_set>& missed, bool site_returns);
  /// Settled positions become outstanding again, without an entry: the caller settles them.
  void reopen_committed(const range_set& ranges);
  void reopen_partial(const std::vector<partial_lease>& entries);
  void drop_entries(const range_set& ranges);
  lease_settlement settle_outstanding(bool site_returns);
  range_set partial_positions() const;

  std::uint32_t shard_ = 0;
  std::uint64_t samples_ = 1;
  std::uint64_t next_ = 0;
  step_number last_step_ = 0;             // of the latest grant
  std::vector<step_number> watermarks_;   // by group
  std::vector<grant_entry> outstanding_;  // in order of grant: steps ascend
  std::vector<range_set> missed_;         // by group: outstanding positions that its records had and never will have again
  range_set waiting_;                     // returned, to be granted before new positions
  range_set committed_, written_off_;
  std::vector<partial_lease> partial_;
  lease_totals totals_;
};

}  // namespace isthmus
