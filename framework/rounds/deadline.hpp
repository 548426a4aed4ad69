#pragma once

#include "framework/core/clock.hpp"

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

/// How long a round may wait for its slowest contribution, learnt from how long past rounds took from their first to their last
/// contribution, late ones included: median + k * MAD, within bounds. Nothing learnt: the upper bound.
class learned_deadline {
public:
  explicit learned_deadline(deadline_settings s) : settings_(s) {}
  /// A round's contributions were all there (or a late one came) this long after its first.
  void observe(duration spread);
  duration value() const;
  /// When a round closes that opened (first contribution) and reached its quorum at these times: after the grace window, but not
  /// later than the learned deadline, and never before the quorum.
  time_point closes_at(time_point opened, time_point quorum) const;

private:
  deadline_settings settings_;
  std::deque<duration> past_;
};

}  // namespace isthmus
