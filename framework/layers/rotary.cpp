#include "framework/layers/rotary.hpp"

#include <cmath>
#include <numbers>

namespace isthmus {

double rotary_rule::turn(std::int64_t pair) const {
  const double plain = std::pow(theta, -2.0 * static_cast<double>(pair) / static_cast<double>(width));
  if (factor == 1) return plain;
  const double length = 2 * std::numbers::pi / plain, original = static_cast<double>(original_context);
  if (length > original / low) return plain / factor;
  if (length < original / high) return plain;
  const double share = (original / length - low) / (high - low);
  return (1 - share) * plain / factor + share * plain;
}

template <class Real>
typename rotary_tables<Real>::angles rotary_tables<Real>::of(const rotary_rule& rule, std::int64_t first, std::int64_t length) {
  table& t = tables_[rule];
  const std::int64_t half = rule.width / 2, wanted = (first + length) * half;
  if (static_cast<std::int64_t>(t.cosine.size()) < wanted) {
    std::vector<double> turns;
    for (std::int64_t i = 0; i < half; ++i) turns.push_back(rule.turn(i));
    for (auto at = static_cast<std::int64_t>(t.cosine.size()); at < wanted; ++at) {
      const double angle = static_cast<double>(at / half) * turns[static_cast<std::size_t>(at % half)];
      t.cosine.push_back(static_cast<Real>(std::cos(angle)));
      t.sine.push_back(static_cast<Real>(std::sin(angle)));
    }
  }
  return {t.cosine.data() + first * half, t.sine.data() + first * half};
}

template class rotary_tables<float>;
template class rotary_tables<double>;

}  // namespace isthmus
