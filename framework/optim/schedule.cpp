#include "framework/optim/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace isthmus {

double rate_schedule::learning_rate(std::int64_t tokens_done) const {
  const auto done = static_cast<double>(tokens_done), warmup = static_cast<double>(warmup_tokens);
  if (done < warmup) return peak * done / warmup;
  if (decay_tokens > 0) {
    const double left = std::max(0.0, static_cast<double>(total_tokens) - done);
    return floor + (peak - floor) * std::min(1.0, left / static_cast<double>(decay_tokens));
  }
  const double rest = static_cast<double>(total_tokens) - warmup;
  const double share = rest > 0 ? std::min(1.0, (done - warmup) / rest) : 1.0;
  return floor + (peak - floor) * 0.5 * (1 + std::cos(std::numbers::pi * share));
}

}  // namespace isthmus
