#include "framework/rounds/json_lines.hpp"
#include "framework/rounds/ledger_read.hpp"
#include "framework/rounds/parameter_group.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <set>

/// L2: epochs follow one another, and each group has one chain of committed rounds.
namespace isthmus::ledger_check {

namespace {

std::string named(const round_record& r) { return "round " + std::to_string(r.round) + " of group " + std::to_string(r.group); }

const group_cut* cut_of(const epoch_view& v, group_id group) {
  for (const group_cut& c : v.cuts)
    if (c.group == group) return &c;
  return nullptr;
}

const epoch_member* member_of(const epoch_view& v, site_id site) {
  for (const epoch_member& m : v.members)
    if (m.site == site) return &m;
  return nullptr;
}

void check_epochs(const logs& all, ledger_report& report) {
  violations wrong(report);
  for (std::size_t i = 0; i < all.epochs.size(); ++i) {
    const coordinator_entry& e = all.epochs[i].entry;
    const std::string& where = all.epochs[i].where;
    if (e.view.number != i + 1)
      wrong.add(where, "epoch_number", "epoch " + std::to_string(e.view.number) + " where " + std::to_string(i + 1) + " follows");
    if (i == 0) continue;
    const epoch_view& before = all.epochs[i - 1].entry.view;
    std::set<site_id> accounted(e.sealed.begin(), e.sealed.end());
    for (const site_id s : e.sealed)
      if (member_of(before, s) == nullptr)
        wrong.add(where, "seals", "site " + std::to_string(s) + " sealed an epoch that it was no member of");
    const bool enough = e.sealed.size() >= (before.members.size() + 1) / 2;
    for (const epoch_member& m : e.ended) accounted.insert(m.site);
    const bool accounted_for =
        std::all_of(before.members.begin(), before.members.end(), [&](const auto& m) { return accounted.contains(m.site); });
    if (!enough && !(e.restart && accounted_for))
      wrong.add(where, "seals",
                std::to_string(e.sealed.size()) + " of " + std::to_string(before.members.size()) + " members sealed epoch " +
                    std::to_string(before.number) + ": not enough to end it");
    for (const group_cut& c : e.view.cuts) {
      const group_cut* old = cut_of(before, c.group);
      if (!e.restart && old != nullptr && c.round < old->round)
        wrong.add(where, "cut_fell",
                  "the cut of group " + std::to_string(c.group) + " falls from round " + std::to_string(old->round) + " to " +
                      std::to_string(c.round));
    }
  }
}

void collect(const logs& all, std::map<hash128, known_record>& records) {
  for (const auto& [site, lines] : all.sites) {
    for (const site_line& line : lines) {
      if (!line.body->contains("record")) continue;
      const round_record r = json_lines::record_from(line.body->at("record"));
      if (r.round == 0) continue;
      known_record& k = records[hash_record(r)];
      if (k.where.empty()) {
        k.record = r;
        k.hash = hash_record(r);
        k.where = line.where;
      }
      if (line.type == "stored") k.stored[site] = line.incarnation;
      if (line.type == "applied") k.applied[site] = line.incarnation;
      if (line.type == "committed") {
        k.committed_at = line.where;
        k.counted = line.body->at("stored_at").get<std::vector<site_id>>();
      }
    }
  }
}

/// A member stores records of the epoch that it has entered, and of no other.
void check_stored_epochs(const std::vector<site_line>& lines, violations& wrong) {
  std::map<group_id, epoch_number> entered;
  for (const site_line& l : lines) {
    if (l.type == "started") entered.clear();
    if (l.type == "entered") entered[l.body->at("group").get<group_id>()] = l.body->at("epoch").get<epoch_number>();
    if (l.type != "stored") continue;
    const round_record r = json_lines::record_from(l.body->at("record"));
    if (const auto at = entered.find(r.group); at != entered.end() && at->second != r.epoch)
      wrong.add(l.where, "stored_epoch",
                named(r) + " of epoch " + std::to_string(r.epoch) + " was stored by a site in epoch " + std::to_string(at->second));
  }
}

/// The first later epoch whose cut leaves the record out; null when it counts.
const epoch_line* voided_by(const logs& all, const known_record& k) {
  for (const epoch_line& e : all.epochs) {
    if (e.entry.view.number <= k.record.epoch) continue;
    const group_cut* c = cut_of(e.entry.view, k.record.group);
    if (c == nullptr) continue;
    if (c->round < k.record.round || (c->round == k.record.round && c->record_hash != k.hash)) return &e;
  }
  return nullptr;
}

bool is_in_a_cut(const logs& all, const known_record& k) {
  return std::any_of(all.epochs.begin(), all.epochs.end(), [&](const epoch_line& e) {
    const group_cut* c = cut_of(e.entry.view, k.record.group);
    return e.entry.view.number > k.record.epoch && c != nullptr && c->round >= k.record.round;
  });
}

using processes = std::set<std::pair<site_id, incarnation_number>>;

/// Who is said to have stored it must say so itself, if its process has left a ledger.
void check_stores(const epoch_view& v, const known_record& k, const processes& entered, violations& wrong) {
  for (const site_id s : k.counted) {
    const epoch_member* m = member_of(v, s);
    if (m != nullptr && entered.contains({s, m->incarnation}) && !k.stored.contains(s))
      wrong.add(k.committed_at, "stored_at",
                named(k.record) + " was committed with a store of site " + std::to_string(s) + ", whose ledger does not have it");
  }
}

void check_commit(const logs& all, const known_record& k, const processes& entered, violations& wrong) {
  if (k.record.epoch == 0 || k.record.epoch > all.epochs.size()) {
    if (!all.epochs.empty())
      wrong.add(k.where, "epoch_known", named(k.record) + " names epoch " + std::to_string(k.record.epoch) + ", which is in no log");
    return;
  }
  const epoch_view& v = all.epochs[k.record.epoch - 1].entry.view;
  const std::size_t majority = v.members.size() / 2 + 1;
  if (!k.committed_at.empty()) {
    std::set<site_id> stores;
    for (const site_id s : k.counted)
      if (member_of(v, s) != nullptr) stores.insert(s);
    if (stores.size() < majority)
      wrong.add(k.committed_at, "majority",
                named(k.record) + " was committed with " + std::to_string(stores.size()) + " stores of members, " +
                    std::to_string(majority) + " are needed");
    check_stores(v, k, entered, wrong);
    return;
  }
  if (k.applied.empty() || is_in_a_cut(all, k)) return;
  std::size_t possible = 0;  // the home's log is lost: its members' logs must allow a majority
  for (const epoch_member& m : v.members)
    possible += k.stored.contains(m.site) || !all.sites.contains(m.site) || m.site == k.record.home ? 1 : 0;
  if (possible < majority) wrong.add(k.where, "majority", named(k.record) + " was applied, but too few members stored it");
}

void check_contributors(const logs& all, const known_record& k, violations& wrong) {
  const round_record& r = k.record;
  for (std::size_t i = 0; i < r.contributors.size(); ++i) {
    const contributor& c = r.contributors[i];
    if (is_veto(c.judged) && (c.counted() > 0 || c.clipped != c.mass))
      wrong.add(k.where, "contributors", "site " + std::to_string(c.site) + " in " + named(r) + " is vetoed, but counts in part");
    const std::string who = "site " + std::to_string(c.site) + " in " + named(r);
    if (i > 0 && c.site <= r.contributors[i - 1].site) wrong.add(k.where, "contributors", who + " is out of order or there twice");
    if (r.epoch == 0 || r.epoch > all.epochs.size()) continue;
    const epoch_member* m = member_of(all.epochs[r.epoch - 1].entry.view, c.site);
    if (m == nullptr || m->incarnation != c.incarnation) wrong.add(k.where, "contributors", who + " is not that epoch's member");
  }
  if (r.contributors.empty()) wrong.add(k.where, "contributors", named(r) + " has none");
}

/// Whose lines are there. One that starts on a disk that lost its files may bear a number that was used before, until it is told.
struct written_logs {
  processes started, entered;  // entered an epoch: it was admitted, and nobody else bore its number
};

written_logs find_logs(const logs& all) {
  written_logs found;
  for (const auto& [site, lines] : all.sites)
    for (const site_line& line : lines) {
      found.started.emplace(site, line.incarnation);
      if (line.type == "entered") found.entered.emplace(site, line.incarnation);
    }
  return found;
}

/// Members of epochs whose process left no ledger, or none of what others heard of it: a disk was lost.
std::uint64_t count_lost_logs(const logs& all, const std::map<hash128, known_record>& records, const written_logs& written) {
  processes lost;
  for (const epoch_line& e : all.epochs)
    for (const epoch_member& m : e.entry.view.members)
      if (!written.started.contains({m.site, m.incarnation})) lost.emplace(m.site, m.incarnation);
  for (const auto& [hash, k] : records)
    for (const contributor& c : k.record.contributors)
      if (!written.entered.contains({c.site, c.incarnation})) lost.emplace(c.site, c.incarnation);
  return lost.size();
}

/// An audit is of a contribution that an earlier round took something of, and there is one of each at most.
void check_audits(const std::map<round_number, const known_record*>& rounds, ledger_report& report) {
  violations wrong(report);
  std::set<std::pair<site_id, round_number>> seen;
  for (const auto& [number, k] : rounds)
    for (const audit_result& a : k->record.audits) {
      audit_tally& tally = report.audits[a.site];
      tally.failed += a.failed ? 1 : 0;
      tally.cosines.insert(std::ranges::upper_bound(tally.cosines, a.cosine), a.cosine);
      const std::string what = "the audit of site " + std::to_string(a.site) + " in round " + std::to_string(a.round) + " that " +
                               named(k->record) + " tells of";
      if (!seen.emplace(a.site, a.round).second) wrong.add(k->where, "audits", what + " is there twice");
      const auto of = rounds.find(a.round);
      if (of == rounds.end() && a.round < number && report.lost_logs > 0) continue;
      const bool there = a.round < number && of != rounds.end() &&
                         std::ranges::any_of(of->second->record.contributors,
                                             [&](const contributor& c) { return c.site == a.site && !is_veto(c.judged); });
      if (!there) wrong.add(k->where, "audits", what + " is of no contribution that was taken");
    }
}

void check_chain(group_id group, const std::map<round_number, const known_record*>& rounds, ledger_report& report) {
  violations wrong(report);
  const known_record* before = nullptr;
  std::map<site_id, contributor> marks;
  double unit = 0;
  for (const auto& [number, k] : rounds) {
    const round_number expected_round = before == nullptr ? 1 : before->record.round + 1;
    if (number != expected_round && report.lost_logs > 0)
      report.unproved_rounds += number - expected_round;
    else if (number != expected_round)
      wrong.add(k->where, "chain",
                "rounds " + std::to_string(expected_round) + " to " + std::to_string(number - 1) + " of group " + std::to_string(group) +
                    " are in no log");
    else if (k->record.previous != (before == nullptr ? hash128{} : before->hash))
      wrong.add(k->where, "chain", named(k->record) + " does not follow the record before it");
    std::uint64_t tokens = 0;
    for (const contributor& c : k->record.contributors) {
      tokens += c.counted();
      report.vetoed += is_veto(c.judged) ? 1 : 0;
      report.clipped += c.judged == verdict::clipped ? 1 : 0;
      const auto mark = marks.find(c.site);
      if (mark != marks.end() && (c.step <= mark->second.step || c.incarnation < mark->second.incarnation))
        wrong.add(k->where, "watermark",
                  "site " + std::to_string(c.site) + " reaches step " + std::to_string(c.step) + " in " + named(k->record) +
                      ", after step " + std::to_string(mark->second.step));
      marks[c.site] = c;
    }
    const std::uint64_t total = before != nullptr && number == expected_round ? before->record.tokens_total : 0;
    if (number == expected_round && k->record.tokens_total != total + tokens)
      wrong.add(k->where, "tokens",
                named(k->record) + ": tokens_total is " + std::to_string(k->record.tokens_total) + ", its contributors make it " +
                    std::to_string(total + tokens));
    const double per_weight = static_cast<double>(tokens) / k->record.weight;
    if (tokens == 0) {  // all vetoed: the anchor moves by its momentum alone
      if (k->record.weight != 1) wrong.add(k->where, "weight", named(k->record) + " has no tokens, but not the weight 1");
      before = k;
      continue;
    }
    if (!(k->record.weight > 0) || (unit > 0 && std::abs(per_weight - unit) > 1e-6 * unit))
      wrong.add(k->where, "weight", named(k->record) + ": the weight is not what its contributors' tokens add up to");
    if (unit == 0) unit = per_weight;
    before = k;
  }
}

/// A site whose anchor differed must have copied it from a peer before it went on.
void check_divergences(const logs& all, ledger_report& report) {
  violations wrong(report);
  for (const auto& [site, lines] : all.sites) {
    std::map<group_id, const site_line*> open;
    for (const site_line& line : lines) {
      if (line.type == "diverged") ++report.divergences;
      if (line.type == "diverged")
        open[line.body->at("group").get<group_id>()] = &line;
      else if (line.type == "copied")
        open.erase(line.body->at("record").at("group").get<group_id>());
      else if (line.type == "started")
        open.clear();
      else if (line.type == "applied" && open.contains(line.body->at("record").at("group").get<group_id>()))
        wrong.add(line.where, "one_anchor", "the site applied a round to an anchor that had diverged");
    }
    if (!lines.empty() && lines.back().type == "ended")
      for (const auto& [group, line] : open)
        wrong.add(line->where, "one_anchor", "group " + std::to_string(group) + " diverged and was never repaired");
  }
}

}  // namespace

history check_rounds(const logs& all, std::map<hash128, known_record>& records, ledger_report& report) {
  violations wrong(report);
  check_epochs(all, report);
  report.epochs = all.epochs.size();
  const written_logs written = find_logs(all);
  collect(all, records);
  report.lost_logs = count_lost_logs(all, records, written);
  for (const auto& [site, lines] : all.sites) check_stored_epochs(lines, wrong);
  history h;
  for (auto& [hash, k] : records) {
    const epoch_line* by = voided_by(all, k);
    k.is_void = by != nullptr;
    if (k.is_void) {
      ++report.records_void;
      const bool counted = !k.committed_at.empty() || !k.applied.empty();
      if (counted && !by->entry.restart)
        wrong.add(k.where, "committed_stays",
                  named(k.record) + " was committed, but epoch " + std::to_string(by->entry.view.number) + " starts without it");
      continue;
    }
    if (k.committed_at.empty() && k.applied.empty() && !is_in_a_cut(all, k)) continue;  // offered, its fate open
    check_commit(all, k, written.entered, wrong);
    check_contributors(all, k, wrong);
    const auto [at, fresh] = h[k.record.group].emplace(k.record.round, &k);
    if (!fresh) wrong.add(k.where, "one_history", named(k.record) + " was committed twice, differently; the other: " + at->second->where);
  }
  for (const auto& [group, rounds] : h) {
    check_chain(group, rounds, report);
    check_audits(rounds, report);
    report.rounds += rounds.size();
    report.last_round[group] = rounds.rbegin()->first;
    report.last_anchor[group] = rounds.rbegin()->second->record.anchor_hash;
  }
  check_divergences(all, report);
  return h;
}

}  // namespace isthmus::ledger_check
