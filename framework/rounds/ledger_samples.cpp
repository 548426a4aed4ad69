#include "framework/rounds/json_lines.hpp"
#include "framework/rounds/ledger_read.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

/// L1: what became of every sample position that was ever handed out.
namespace isthmus::ledger_check {

namespace {

enum class state { untouched, outstanding, waiting, written_off };

/// A stretch of positions with one fate, between two neighbouring edges of all ranges that the logs name.
struct stretch {
  std::uint64_t begin = 0, end = 0;
  state now = state::untouched;
  incarnation_number granted_by = 0;
  std::string where;                                // the last line about it
  std::map<group_id, incarnation_number> named_by;  // groups whose records name it, and whose contribution it was
  incarnation_number declared_by = 0;               // who called it partial; 0: nobody
  bool was_named = false;                           // by a record that is void
  std::uint64_t size() const { return end - begin; }
};

class shard_account {
public:
  void edge(const lease& l) { edges_.insert({l.begin, l.end}); }
  void cut() {
    for (auto at = edges_.begin(); at != edges_.end() && std::next(at) != edges_.end(); ++at)
      stretches_.push_back({*at, *std::next(at), {}, 0, {}, {}, 0, false});
  }
  template <class Function>
  void each(const lease& l, Function f) {
    auto at =
        std::lower_bound(stretches_.begin(), stretches_.end(), l.begin, [](const stretch& s, std::uint64_t b) { return s.begin < b; });
    for (; at != stretches_.end() && at->begin < l.end; ++at) f(*at);
  }
  std::vector<stretch>& all() { return stretches_; }

private:
  std::set<std::uint64_t> edges_;
  std::vector<stretch> stretches_;
};

using accounts = std::map<std::pair<site_id, std::uint32_t>, shard_account>;

bool is_lease_line(const std::string& type) {
  return type == "granted" || type == "returned" || type == "written_off" || type == "partial";
}

std::string range(const stretch& s, const std::pair<site_id, std::uint32_t>& key) {
  return "positions " + std::to_string(s.begin) + " to " + std::to_string(s.end) + " of shard " + std::to_string(key.second) + " at site " +
         std::to_string(key.first);
}

using known_records = std::map<hash128, known_record>;

accounts cut_into_stretches(const logs& all, const known_records& records) {
  accounts a;
  for (const auto& [site, lines] : all.sites)
    for (const site_line& line : lines) {
      if (!is_lease_line(line.type)) continue;
      const lease l = json_lines::lease_from(line.body->at("lease"));
      a[{site, l.shard}].edge(l);
    }
  for (const auto& [hash, k] : records)
    for (const contributor& c : k.record.contributors)
      for (const lease& l : c.leases) a[{c.site, l.shard}].edge(l);
  for (auto& [key, account] : a) account.cut();
  for (const auto& [hash, k] : records)
    for (const contributor& c : k.record.contributors)
      for (const lease& l : c.leases)
        if (k.is_void) a[{c.site, l.shard}].each(l, [](stretch& s) { s.was_named = true; });
  return a;
}

void name_by_records(const history& h, accounts& a, violations& wrong) {
  for (const auto& [group, rounds] : h)
    for (const auto& [number, k] : rounds)
      for (const contributor& c : k->record.contributors) {
        if (is_veto(c.judged)) continue;  // nothing made of them was taken
        for (const lease& l : c.leases)
          a[{c.site, l.shard}].each(l, [&, g = group, r = k](stretch& s) {
            const std::pair key(c.site, l.shard);
            if (!s.named_by.emplace(g, c.incarnation).second)
              wrong.add(r->where, "committed_twice", range(s, key) + " are in two committed rounds of group " + std::to_string(g));
            if (s.named_by.begin()->second != c.incarnation || s.named_by.rbegin()->second != c.incarnation)
              wrong.add(r->where, "trained_twice", range(s, key) + " were trained by two incarnations and committed from both");
          });
      }
}

/// The site's own lines, in order. Totals of the report grow with each grant and return.
void replay(const logs& all, accounts& a, ledger_report& report, violations& wrong) {
  for (const auto& [site, lines] : all.sites)
    for (const site_line& line : lines) {
      if (!is_lease_line(line.type)) continue;
      const lease l = json_lines::lease_from(line.body->at("lease"));
      const std::pair key(site, l.shard);
      a[key].each(l, [&](stretch& s) {
        const bool lost_grant = s.now != state::outstanding && line.type != "granted";
        if (lost_grant && s.now == state::written_off) return;                           // said before
        const bool declared = s.now == state::untouched && s.declared_by > 0;            // a lost grant that is counted already
        if (lost_grant && s.named_by.empty() && !declared) report.assigned += s.size();  // its grant was lost with the disk
        if (line.type == "granted") {
          if (s.now == state::outstanding && s.granted_by == line.incarnation)
            wrong.add(line.where, "granted_twice", range(s, key) + " are handed out, but were not back from " + s.where);
          if (s.now == state::outstanding || (declared && s.named_by.empty())) report.returned += s.size();  // by the crash between
          if (s.now == state::written_off) wrong.add(line.where, "granted_twice", range(s, key) + " had been written off");
          report.assigned += s.size();
          s.now = state::outstanding;
          s.granted_by = line.incarnation;
          s.declared_by = 0;
        } else if (line.type == "returned") {
          if (s.now == state::outstanding || s.named_by.empty()) report.returned += s.size();
          s.now = state::waiting;
          s.declared_by = 0;  // the records that had them in part are void
        } else if (line.type == "written_off") {
          s.now = state::written_off;
        } else {
          s.declared_by = line.incarnation;
        }
        s.where = line.where;
      });
    }
}

/// Where a site's account stands at the end of its log.
struct standing {
  incarnation_number last = 0;
  bool ended = false;
};

void settle(const std::pair<site_id, std::uint32_t>& key, const stretch& s, const standing& site, std::size_t groups, ledger_report& report,
            violations& wrong) {
  const bool granted = s.now != state::untouched;
  const bool open = s.now == state::outstanding && s.granted_by == site.last && !site.ended && !report.complete;
  const std::string where = s.where.empty() ? "ledger/site-" + std::to_string(key.first) + ".jsonl" : s.where;
  if (!s.named_by.empty()) {
    if (!granted) report.assigned += s.size();  // the record proves the grant
    if (s.now == state::waiting)
      wrong.add(where, "returned_but_committed", range(s, key) + " were returned, but a committed record names them");
    if (s.named_by.size() == groups)
      report.committed += s.size();
    else if (open)
      report.outstanding += s.size();
    else
      report.partial += s.size();
    return;
  }
  if (s.declared_by > 0 && (s.now == state::untouched || (report.unproved_rounds > 0 && s.now == state::outstanding))) {
    report.partial += s.size();  // by records that were lost with their disks
    return;
  }
  if (s.declared_by > 0 && s.declared_by == site.last && report.unproved_rounds == 0)
    wrong.add(where, "partial", range(s, key) + " are said to be partly committed, but no record names them");
  if (s.now == state::written_off) report.written_off += s.size();
  if (s.now != state::outstanding) return;
  if (s.granted_by < site.last)
    report.returned += s.size();        // by the crash behind
  else if (site.ended && !s.was_named)  // a site's end is as void as the records that it relied on
    wrong.add(where, "hole", range(s, key) + " were handed out and are in no record, not returned and not written off");
  else if (report.complete)
    report.written_off += s.size();  // the site stayed away
  else
    report.outstanding += s.size();
}

}  // namespace

void check_samples(const logs& all, const history& h, const known_records& records, ledger_report& report) {
  violations wrong(report);
  std::size_t groups = 0;
  std::map<site_id, standing> sites;
  for (const auto& [site, lines] : all.sites)
    for (const site_line& line : lines) {
      standing& s = sites[site];
      if (line.incarnation < s.last) wrong.add(line.where, "incarnation", "incarnations fall in one ledger");
      if (line.type == "started") {
        groups = std::max<std::size_t>(groups, line.body->at("groups").get<std::size_t>());
        s = {line.incarnation, false};
      }
      if (s.ended && line.type == "granted") wrong.add(line.where, "after_end", "samples are handed out behind the site's end");
      if (line.type == "ended") s.ended = true;
      if (line.type == "reopened") s.ended = false;
    }
  for (const epoch_line& e : all.epochs) groups = std::max(groups, e.entry.view.cuts.size());

  accounts a = cut_into_stretches(all, records);
  name_by_records(h, a, wrong);
  replay(all, a, report, wrong);
  for (auto& [key, account] : a)
    for (const stretch& s : account.all()) settle(key, s, sites[key.first], groups, report, wrong);
  if (report.assigned != report.committed + report.partial + report.returned + report.written_off + report.outstanding)
    wrong.add("ledger", "balance",
              "assigned " + std::to_string(report.assigned) + " is not committed " + std::to_string(report.committed) + " + partial " +
                  std::to_string(report.partial) + " + returned " + std::to_string(report.returned) + " + written off " +
                  std::to_string(report.written_off) + " + outstanding " + std::to_string(report.outstanding));
}

}  // namespace isthmus::ledger_check
