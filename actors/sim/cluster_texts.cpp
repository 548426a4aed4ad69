#include "actors/sim/cluster.hpp"

#include "framework/core/rng.hpp"

/// The text of a simulated run, and who holds which.
namespace isthmus::actors {

std::shared_ptr<const token_shard> cluster::shard_of(site_id site) {
  auto& known = shards_[site];
  if (known) return known;
  auto shard = std::make_shared<token_shard>();
  shard->name = "synthetic-" + std::to_string(site);
  shard->vocabulary = static_cast<std::uint32_t>(plan.data.vocabulary);
  rng text(42, site, 0, draw::token);
  const auto fill = [&](token_section& section, std::size_t n) {
    std::vector<std::uint16_t> tokens;
    std::uint16_t last = 0;
    for (std::size_t i = 0; i < n; ++i) {
      last = static_cast<std::uint16_t>(text.below(4) == 0 ? text.below(256) : (last * 5 + 17 + site) % 256);
      tokens.push_back(last);
    }
    section.document_ends = {n};
    section.tokens = std::move(tokens);
  };
  fill(shard->train, static_cast<std::size_t>(plan.train.context) * 300 + 1);
  fill(shard->held_out, static_cast<std::size_t>(plan.train.context) * 64 + 1);
  return known = std::move(shard);
}

/// A home holds the text of each site that shares it.
audit_means cluster::audits_of(const recipe& own, site_id site, std::function<site_arithmetic()> arithmetic) {
  audit_means means;
  means.arithmetic = std::move(arithmetic);
  means.secret = mix64(options_.seed ^ mix64(site));
  for (site_id other = 0; other < options_.sites && own.sites[site].home; ++other)
    if (other != site && own.guard.audit_rate > 0 && own.sites[other].shared_text) means.texts[other] = shard_of(other);
  return means;
}

}  // namespace isthmus::actors
