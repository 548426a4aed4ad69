#include "framework/rounds/audit.hpp"

#include "framework/core/rng.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace isthmus {

namespace {

constexpr std::size_t of_a_record = 256;  // the rest waits for the next one

}  // namespace

bool is_audited(const audit_settings& settings, group_id group, round_number round, site_id site) {
  if (settings.rate <= 0 || std::ranges::find(settings.sites, site) == settings.sites.end()) return false;
  return rng(settings.secret ^ mix64(group), site, round, draw::audit).uniform() < settings.rate;
}

double audit_cosine(std::span<const float> sent, std::span<const float> trained) {
  double both = 0, ours = 0, theirs = 0;
  for (std::size_t i = 0; i < sent.size(); ++i) {
    if (sent[i] == 0) continue;
    const double a = sent[i], b = trained[i];
    both += a * b;
    theirs += a * a;
    ours += b * b;
  }
  if (theirs == 0) return std::ranges::all_of(trained, [](float x) { return x == 0; }) ? 1 : 0;
  const double lengths = std::sqrt(ours * theirs);
  const double cosine = lengths > 0 ? both / lengths : 0;
  return std::isfinite(cosine) ? std::clamp(cosine, -1.0, 1.0) : 0;
}

void audit_list::finish(const audit_settings& settings, site_id site, round_number round, double cosine) {
  if (begun_.erase({site, round}) == 0) return;
  finished_.push_back({site, round, cosine, cosine < settings.cosine, 0});
}

std::vector<std::pair<site_id, std::string>> audit_list::write_into(round_record& record, const watermark_table& marks,
                                                                    const guard_settings& guard, const audit_settings& settings) const {
  std::vector<std::pair<site_id, std::string>> told;
  std::map<site_id, std::uint32_t> in_a_row;
  for (const audit_result& one : finished_) {
    if (record.audits.size() == of_a_record) break;
    audit_result& a = record.audits.emplace_back(one);
    std::uint32_t& failed = in_a_row.emplace(a.site, marks.of(a.site).audits_failed).first->second;
    failed = a.failed ? failed + 1 : 0;
    if (!a.failed) continue;
    std::string text =
        fmt::format("an audit of what it sent in round {} found a cosine of {:.4f} with what its samples make, {:.4g} is asked", a.round,
                    a.cosine, settings.cosine);
    if (guard.barred_after > 0 && failed >= guard.barred_after) {
      a.barred_until = record.round + guard.barred_rounds;
      text += fmt::format("; that is {} failed audits in a row: it is barred up to round {}", failed, a.barred_until);
      failed = 0;
    }
    told.emplace_back(a.site, std::move(text));
  }
  return told;
}

void audit_list::written(const round_record& record) {
  finished_.erase(finished_.begin(), finished_.begin() + static_cast<std::ptrdiff_t>(std::min(record.audits.size(), finished_.size())));
}

}  // namespace isthmus
