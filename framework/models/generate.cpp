#include "framework/models/generate.hpp"

#include "framework/core/error.hpp"
#include "framework/core/rng.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace isthmus {

namespace {

/// The place of the largest. NaN compares with nothing, so that order and maximum mean nothing until it is ruled out.
std::size_t most_likely(std::span<const float> logits) {
  const auto bad = std::ranges::find_if(logits, [](float x) { return std::isnan(x) || x == std::numeric_limits<float>::infinity(); });
  if (bad != logits.end())
    throw not_finite_error(
        fmt::format("the model predicts {} for token {}, and logits must be finite numbers: its weights are too large, or "
                    "were damaged",
                    *bad, bad - logits.begin()));
  const auto largest = std::ranges::max_element(logits);
  if (std::isinf(*largest)) throw not_finite_error("the model predicts minus infinity for every token: there is none to draw");
  return static_cast<std::size_t>(largest - logits.begin());
}

}  // namespace

std::int32_t sample(std::span<const float> logits, const generate_options& options, double u) {
  ensure(!logits.empty(), "sample: no logits");
  const std::size_t best = most_likely(logits);
  if (!(options.temperature > 0)) return static_cast<std::int32_t>(best);
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto at = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return at(a) > at(b); });
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<std::size_t>(options.top_k)));
  std::vector<double> weights;
  for (const std::int32_t id : order)
    weights.push_back(std::exp((static_cast<double>(at(id)) - static_cast<double>(at(order.front()))) / options.temperature));
  const double limit = static_cast<double>(options.top_p) * std::accumulate(weights.begin(), weights.end(), 0.0);
  double total = 0;
  std::size_t kept = 0;
  while (kept < weights.size() && (kept == 0 || total < limit)) total += weights[kept++];
  double left = u * total;
  for (std::size_t i = 0; i < kept; ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order[kept - 1];
}

std::vector<std::int32_t> generate(hybrid_model& model, std::span<const std::int32_t> prompt, const generate_options& options,
                                   const std::function<bool(std::int32_t)>& on_token) {
  ensure(!prompt.empty(), "generate: an empty prompt");
  std::vector<std::int32_t> ids;
  sequence_state state = model.start();
  auto logits = options.tokens_max > 0 ? model.advance(state, prompt) : std::span<const float>{};
  while (static_cast<std::int64_t>(ids.size()) < options.tokens_max) {
    rng random(options.seed, 0, static_cast<std::uint64_t>(state.position), draw::token);
    ids.push_back(sample(logits, options, random.uniform()));
    if (on_token && !on_token(ids.back())) break;
    if (ids.back() == options.stop_id || static_cast<std::int64_t>(ids.size()) == options.tokens_max) break;
    logits = model.advance(state, {&ids.back(), 1});
  }
  return ids;
}

}  // namespace isthmus
