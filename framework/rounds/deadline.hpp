#pragma once

#include "framework/core/clock.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>

namespace isthmus {

struct deadline_settings {
  duration grace = std::chrono::seconds(5);                                // waited for the rest once the quorum is there
  duration min = std::chrono::seconds(2), max = std::chrono::seconds(60);  // bounds of the learned deadline
  double spread = 4;                                                       // k of median + k * MAD
  std::uint32_t window = 32;                                               // arrivals remembered
};

/// How long a round that has its quorum waits for the rest, learnt from how long past rounds took from there to their last contribution,
/// late ones included: median + k * MAD, within bounds. Nothing learnt: the upper bound.
class learned_deadline {
public:
  explicit learned_deadline(deadline_settings s) : settings_(s) {}
  /// A round's contributions were all there (or a late one came) this long after its quorum.
  void observe(duration wait);
  duration value() const;
  /// When a round closes that reached its quorum then: after the grace window, or the learned deadline where that is shorter.
  time_point closes_at(time_point quorum) const { return quorum + std::min(settings_.grace, value()); }

private:
  deadline_settings settings_;
  std::deque<duration> past_;
};

}  // namespace isthmus
