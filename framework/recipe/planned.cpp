#include "framework/recipe/recipe.hpp"

#include <algorithm>

namespace isthmus {

namespace {
std::int64_t divided_up(std::int64_t a, std::int64_t b) { return a / b + (a % b != 0 ? 1 : 0); }
}  // namespace

std::int64_t steps_per_site(const recipe& r) {
  const auto sites = std::max<std::int64_t>(1, static_cast<std::int64_t>(r.sites.size()));
  return divided_up(divided_up(r.run.tokens, sites), r.train.tokens_per_step);
}

std::int64_t planned_rounds(const recipe& r) { return divided_up(steps_per_site(r), r.round.inner_steps); }

std::int64_t reference_tokens(const recipe& r) {
  return r.round.reference_tokens > 0 ? r.round.reference_tokens : r.train.tokens_per_step * r.round.inner_steps;
}

std::int64_t rows_per_step(const recipe& r) { return r.train.tokens_per_step / r.train.context; }

std::int64_t quorum(const recipe& r, std::int64_t members) {
  if (r.run.deterministic) return members;
  const auto wanted = r.round.quorum > 0 ? r.round.quorum : members / 2 + 1;
  return std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(members, 1));
}

std::optional<std::uint32_t> find_site(const recipe& r, std::string_view name) {
  const auto found = std::find_if(r.sites.begin(), r.sites.end(), [&](const recipe::site& s) { return s.name == name; });
  if (found == r.sites.end()) return std::nullopt;
  return static_cast<std::uint32_t>(found - r.sites.begin());
}

rate_schedule learning_rates(const recipe& r) {
  return {r.train.learning_rate, r.train.learning_rate * r.train.final_rate_ratio, r.train.warm_up_tokens, r.run.tokens,
          r.train.decay_tokens};
}

}  // namespace isthmus
