#pragma once

#include "framework/rounds/guard.hpp"
#include "framework/rounds/messages.hpp"
#include "framework/rounds/watermarks.hpp"

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace isthmus {

/// Random audits by training again: docs/hostile.md. As it stands nobody is audited.
struct audit_settings {
  double rate = 0;             // chance that a contribution is audited
  double cosine = 0.25;        // an audit that finds less has failed
  std::vector<site_id> sites;  // whose text this home holds
  std::uint64_t secret = 0;    // of this process: nobody else can tell who is drawn
};

/// Whether a home audits that site's contribution to that round. The same answer each time.
bool is_audited(const audit_settings& settings, group_id group, round_number round, site_id site);

/// Of what a site sent with what its samples make of the same anchor, over the numbers that it sent (a sparse codec leaves most out); both
/// [n]. In [-1, 1]; 0 where only one of them is nothing at all, 1 where both are.
double audit_cosine(std::span<const float> sent, std::span<const float> trained);

/// Audits that were drawn at one group's home and are in no committed record yet.
class audit_list {
public:
  /// The contribution is committed, and is being trained again.
  void begin(site_id site, round_number round) { begun_.emplace(site, round); }
  /// What that found; nothing where it was not begun. Below settings.cosine it has failed.
  void finish(const audit_settings& settings, site_id site, round_number round, double cosine);
  /// Writes them into a record that is being made, and bars who has failed guard.barred_after in a row; gives for each failed one what
  /// people are told.
  std::vector<std::pair<site_id, std::string>> write_into(round_record& record, const watermark_table& marks, const guard_settings& guard,
                                                          const audit_settings& settings) const;
  /// That record was committed.
  void written(const round_record& record);
  /// We are home no longer, or rounds became void: what comes of audits says nothing any more.
  void clear() { begun_.clear(), finished_.clear(); }

private:
  std::set<std::pair<site_id, round_number>> begun_;
  std::vector<audit_result> finished_;  // in order
};

}  // namespace isthmus
