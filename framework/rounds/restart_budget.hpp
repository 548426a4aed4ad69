#pragma once

#include "framework/core/clock.hpp"

#include <chrono>
#include <cstddef>
#include <deque>

namespace isthmus {

/// How often something may be begun again before the failure climbs: at most `restarts` in any `window` (Erlang's intensity);
/// where nothing else is said, what a child of a supervisor has.
class restart_budget {
public:
  explicit restart_budget(std::size_t restarts = 5, duration window = std::chrono::seconds(60)) : restarts_(restarts), window_(window) {}
  /// Counts a restart at `now`; false when that is one too many.
  bool spend(time_point now) {
    while (!spent_.empty() && now - spent_.front() > window_) spent_.pop_front();
    if (spent_.size() >= restarts_) return false;
    spent_.push_back(now);
    return true;
  }

private:
  std::size_t restarts_;
  duration window_;
  std::deque<time_point> spent_;
};

}  // namespace isthmus
