#include "framework/rounds/watermarks.hpp"

#include <algorithm>
#include <tuple>

namespace isthmus {

std::vector<lease> joined(std::span<const lease> a, std::span<const lease> b) {
  std::vector<lease> all(a.begin(), a.end());
  all.insert(all.end(), b.begin(), b.end());
  std::erase_if(all, [](const lease& l) { return l.begin >= l.end; });
  std::sort(all.begin(), all.end(),
            [](const lease& x, const lease& y) { return std::tie(x.shard, x.begin, x.end) < std::tie(y.shard, y.begin, y.end); });
  std::vector<lease> out;
  for (const lease& l : all) {
    if (!out.empty() && out.back().shard == l.shard && l.begin <= out.back().end)
      out.back().end = std::max(out.back().end, l.end);
    else
      out.push_back(l);
  }
  return out;
}

std::vector<lease> without(std::span<const lease> a, std::span<const lease> b) {
  std::vector<lease> left = joined(a, {});
  for (const lease& gone : b) {
    std::vector<lease> next;
    for (const lease& l : left) {
      if (l.shard != gone.shard || l.end <= gone.begin || gone.end <= l.begin) {
        next.push_back(l);
        continue;
      }
      if (l.begin < gone.begin) next.push_back({l.shard, l.begin, gone.begin});
      if (gone.end < l.end) next.push_back({l.shard, gone.end, l.end});
    }
    left = std::move(next);
  }
  return left;
}

watermark_table::watermark_table(std::vector<contributor> entries) : entries_(std::move(entries)) {
  std::sort(entries_.begin(), entries_.end(), [](const contributor& a, const contributor& b) { return a.site < b.site; });
}

void watermark_table::apply(const round_record& record) {
  for (const contributor& c : record.contributors) {
    auto at = std::lower_bound(entries_.begin(), entries_.end(), c.site, [](const contributor& e, site_id site) { return e.site < site; });
    if (at == entries_.end() || at->site != c.site) {
      at = entries_.insert(at, contributor{});
      at->site = c.site;
    }
    at->incarnation = c.incarnation;
    at->step = c.step;
    at->judged = c.judged;
    if (is_veto(c.judged)) {
      at->strikes += c.judged == verdict::barred ? 0 : 1;
      if (c.barred_until > 0) at->barred_until = c.barred_until, at->strikes = 0;
      continue;
    }
    at->strikes = 0;
    ++at->rounds;
    at->tokens += c.tokens;
    at->mass += c.mass;
    at->leases = joined(at->leases, c.leases);
  }
  for (const audit_result& a : record.audits) {
    const auto at = std::ranges::find(entries_, a.site, &contributor::site);
    if (at == entries_.end()) continue;  // no home makes such a record: it audits what was committed
    at->audits_failed = a.failed ? at->audits_failed + 1 : 0;
    if (a.barred_until > 0) at->barred_until = std::max(at->barred_until, a.barred_until), at->audits_failed = 0;
  }
}

contributor watermark_table::of(site_id site) const {
  for (const contributor& c : entries_)
    if (c.site == site) return c;
  contributor none;
  none.site = site;
  return none;
}

}  // namespace isthmus
