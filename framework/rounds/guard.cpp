#include "framework/rounds/guard.hpp"

#include "framework/core/error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace isthmus {

namespace {

constexpr std::size_t remembered = 64;  // contributions of a site
constexpr std::uint64_t sketch_stream = 0x736b65746368;
/// Of the L2 norm, as in the ledger's checks.
constexpr double mass_tolerance = 1e-4;

std::string ordinal_site(site_id site) { return "site " + std::to_string(site); }

}  // namespace

const char* name_of(verdict v) {
  switch (v) {
    case verdict::taken: return "taken";
    case verdict::clipped: return "clipped";
    case verdict::unreadable: return "unreadable";
    case verdict::not_finite: return "not_finite";
    case verdict::mass: return "mass";
    case verdict::norm: return "norm";
    case verdict::replay: return "replay";
    case verdict::copy: return "copy";
    case verdict::direction: return "direction";
    case verdict::barred: return "barred";
  }
  return "taken";
}

direction_sketch sketch_of(std::span<const float> values, std::uint64_t key) {
  direction_sketch s;
  for (std::size_t block = 0; block * 64 < values.size(); ++block) {
    const std::uint64_t signs = probe_signs(key ^ sketch_stream, block);
    const std::size_t first = block * 64, n = std::min<std::size_t>(64, values.size() - first);
    float* into = s.sums.data() + first % s.sums.size();
    for (std::size_t i = 0; i < n; ++i) into[i] += (signs >> i & 1) != 0 ? -values[first + i] : values[first + i];
  }
  return s;
}

double cosine(const direction_sketch& a, const direction_sketch& b) {
  const double lengths = std::sqrt(dot(a.sums, a.sums) * dot(b.sums, b.sums));
  return lengths > 0 ? dot(a.sums, b.sums) / lengths : 0;
}

void guard::veto(judged_contribution& c, verdict why, std::string reason, const watermark_table& marks, round_number round) const {
  c.meta.judged = why;
  c.meta.uncounted = c.meta.tokens;
  c.meta.clipped = c.meta.mass;
  c.reason = std::move(reason);
  if (s_.barred_after == 0 || why == verdict::barred || marks.of(c.meta.site).strikes + 1 < s_.barred_after) return;
  c.meta.barred_until = round + s_.barred_rounds;
  c.reason += fmt::format("; that is {} vetoes in a row: it is barred up to round {}", s_.barred_after, c.meta.barred_until);
}

void guard::judge(std::vector<judged_contribution>& all, const watermark_table& marks, round_number round) const {
  std::vector<judged_contribution*> left;
  for (judged_contribution& c : all) {
    if (is_veto(c.meta.judged)) continue;
    const round_number until = marks.of(c.meta.site).barred_until;
    const double claimed = c.meta.mass, found = c.size.probe, length = std::sqrt(c.size.squares);
    if (round <= until)
      veto(c, verdict::barred, fmt::format("its site is barred up to round {}", until), marks, round);
    else if (!(std::abs(claimed - found) <= mass_tolerance * length + 1e-9))
      veto(c, verdict::mass, fmt::format("it claims a mass of {}, its numbers have {}", claimed, found), marks, round);
    else
      left.push_back(&c);
  }
  const auto drop = [&] { std::erase_if(left, [](const auto* c) { return is_veto(c->meta.judged); }); };
  cap(left, marks, round);
  if (s_.norm_veto > 0) screen_norms(left, marks, round), drop();
  if (s_.similarity_veto > 0) screen_copies(left, marks, round), drop();
  if (s_.direction_veto > -1) screen_directions(left, marks, round);
}

/// What it weighs: a large claim counts up to weight_cap medians, and who is new counts in part.
void guard::cap(std::vector<judged_contribution*>& left, const watermark_table& marks, round_number round) const {
  if (left.empty()) return;
  std::vector<double> claims;
  for (const auto* c : left) claims.push_back(static_cast<double>(c->meta.tokens));
  const double median = lower_median(claims);
  for (auto* c : left) {
    const auto tokens = static_cast<double>(c->meta.tokens);
    double counted = tokens;
    if (s_.weight_cap > 0) counted = std::min(counted, s_.weight_cap * median);
    const bool new_here = round > s_.probation_rounds && marks.of(c->meta.site).rounds < s_.probation_rounds;
    if (new_here) counted *= s_.probation_weight;
    const auto whole = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(counted));
    if (whole >= c->meta.tokens) continue;
    c->meta.judged = verdict::clipped;
    c->meta.uncounted = c->meta.tokens - whole;
    c->reason = fmt::format("{} of its {} tokens count{}", whole, c->meta.tokens,
                            new_here ? ", its site being on probation" : ", more than the others' median allows");
    const auto scale = static_cast<float>(static_cast<double>(whole) / tokens);
    for (float& x : c->values->span()) x *= scale;
    const double before = c->size.probe;
    c->size = measure(std::as_const(*c->values).span(), key_);
    c->meta.clipped = before - c->size.probe;
  }
}

void guard::screen_norms(std::vector<judged_contribution*>& left, const watermark_table& marks, round_number round) const {
  if (left.empty()) return;
  std::vector<double> lengths;
  for (const auto* c : left) lengths.push_back(std::sqrt(c->size.squares) / static_cast<double>(c->meta.counted()));
  auto sorted = lengths;
  const double median = lower_median(sorted);
  for (std::size_t i = 0; i < left.size(); ++i)
    if (median > 0 && lengths[i] > s_.norm_veto * median)
      veto(*left[i], verdict::norm,
           fmt::format("by tokens it is {:.4g} times as long as the median one, {:.4g} is allowed", lengths[i] / median, s_.norm_veto),
           marks, round);
}

/// Which contribution of the last rounds this one is, if any. What was sent again because its record became void is none.
std::string guard::known(const judged_contribution& c, verdict& why) const {
  for (const auto& [site, list] : past_)
    for (const past& p : list) {
      const bool own = site == c.meta.site;
      if (own && p.incarnation == c.meta.incarnation && p.step == c.meta.step) continue;
      const double alike = cosine(c.sketch, p.sketch);
      if (alike < s_.similarity_veto) continue;
      why = own ? verdict::replay : verdict::copy;
      return fmt::format("its direction is that of {} at step {} (cosine {:.4f})", own ? "its own contribution" : ordinal_site(site) + "'s",
                         p.step, alike);
    }
  return {};
}

void guard::screen_copies(std::vector<judged_contribution*>& left, const watermark_table& marks, round_number round) const {
  for (auto* c : left) {
    verdict why{};
    if (auto reason = known(*c, why); !reason.empty()) veto(*c, why, std::move(reason), marks, round);
  }
  // Of two alike in one round that of the older site stays: it has more rounds, or the lower id.
  const auto older = [&](const auto* a, const auto* b) {
    const auto x = marks.of(a->meta.site).rounds, y = marks.of(b->meta.site).rounds;
    return x != y ? x > y : a->meta.site < b->meta.site;
  };
  for (auto* c : left)
    for (const auto* other : left) {
      if (is_veto(c->meta.judged) || is_veto(other->meta.judged) || other == c || older(c, other)) continue;
      const double alike = cosine(c->sketch, other->sketch);
      if (alike >= s_.similarity_veto)
        veto(*c, verdict::copy,
             fmt::format("its direction is that of {} in this round (cosine {:.4f})", ordinal_site(other->meta.site), alike), marks, round);
    }
}

/// Against the median of its cosines with the others': while the wrong ones are fewer than half of those others, it is an honest one's
/// cosine with an honest one. Related: Munoz-Gonzalez, Co & Lupu 2019 (arXiv:1909.05125), who compare with the mean.
void guard::screen_directions(std::vector<judged_contribution*>& left, const watermark_table& marks, round_number round) const {
  const std::size_t n = left.size();
  if (n < 3) return;
  std::vector<std::vector<double>> with(n);
  for (std::size_t a = 0; a < n; ++a)
    for (std::size_t b = a + 1; b < n; ++b) {
      const double lengths = std::sqrt(left[a]->size.squares * left[b]->size.squares);
      const double c = lengths > 0 ? dot(std::as_const(*left[a]->values).span(), std::as_const(*left[b]->values).span()) / lengths : 0;
      with[a].push_back(c);
      with[b].push_back(c);
    }
  for (std::size_t a = 0; a < n; ++a) {
    auto& cosines = with[a];
    std::ranges::sort(cosines);
    const double median = cosines[cosines.size() / 2];
    if (median <= s_.direction_veto)
      veto(*left[a], verdict::direction,
           fmt::format("its median cosine with the others is {:.4f}, it must be above {:.4f}", median, s_.direction_veto), marks, round);
  }
}

void guard::add(std::vector<judged_contribution>& all, std::span<const float> centre, std::span<float> sum) const {
  std::vector<weighed> parts;
  std::vector<judged_contribution*> whose;
  for (judged_contribution& c : all) {
    if (is_veto(c.meta.judged)) continue;
    const auto weight = static_cast<float>(static_cast<double>(c.meta.counted()) / reference_);
    parts.push_back(weighed{std::as_const(*c.values).span(), weight, c.size, 0});
    whose.push_back(&c);
  }
  robust_sum(s_.aggregate, s_.hostile_max, parts, centre, sum, key_);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    contributor& m = whose[i]->meta;
    m.clipped += parts[i].clipped;
    if (m.clipped != 0) m.judged = verdict::clipped;
  }
}

void guard::remember(const std::vector<judged_contribution>& all) {
  if (s_.similarity_veto <= 0) return;
  for (const judged_contribution& c : all) {
    if (is_veto(c.meta.judged)) continue;  // its samples return, and what is made of them again is no replay
    auto& list = past_[c.meta.site];
    list.push_back({c.meta.incarnation, c.meta.step, c.sketch});
    if (list.size() > remembered) list.pop_front();
  }
}

}  // namespace isthmus
