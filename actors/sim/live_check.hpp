#pragma once

#include "framework/core/hash.hpp"
#include "framework/rounds/messages.hpp"

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>

namespace isthmus::actors {

/// Watches all logs of a run as they are written, in the order in which things happen: what their end states alone do not show. A record
/// is applied only when its home has written that it is committed, or when an epoch that has begun starts at or above it.
class live_check {
public:
  /// What was appended to that file of the run's folder; whole lines.
  void written(const std::string& file, std::string_view text);
  /// The first broken promise; empty: none.
  const std::string& violation() const { return violation_; }

private:
  void line(const std::string& file, std::string_view text);
  using record_key = std::tuple<group_id, round_number, std::string>;  // and its anchor's hash

  std::set<record_key> committed_;
  std::map<group_id, round_number> cuts_;  // the highest that any epoch started from
  std::string violation_;
};

}  // namespace isthmus::actors
