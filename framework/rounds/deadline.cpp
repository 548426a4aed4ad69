#include "framework/rounds/deadline.hpp"

#include <algorithm>
#include <vector>

namespace isthmus {

namespace {

duration median(std::vector<duration> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

void learned_deadline::observe(duration wait) {
  past_.push_back(wait);
  if (past_.size() > settings_.window) past_.pop_front();
}

duration learned_deadline::value() const {
  if (past_.empty()) return settings_.max;
  const duration middle = median({past_.begin(), past_.end()});
  std::vector<duration> deviations;
  for (const duration d : past_) deviations.push_back(d > middle ? d - middle : middle - d);
  const auto learnt = middle + duration(static_cast<duration::rep>(settings_.spread * static_cast<double>(median(deviations).count())));
  return std::clamp(learnt, settings_.min, std::max(settings_.min, settings_.max));
}

}  // namespace isthmus
