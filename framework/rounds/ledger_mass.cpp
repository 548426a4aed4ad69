#include "framework/rounds/json_lines.hpp"
#include "framework/rounds/ledger_read.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <set>

/// Mass: per site and group computed = applied + residual + in flight + decayed + written off, by probes; at a home, what came in is
/// what went out and what it kept.
namespace isthmus::ledger_check {

namespace {

/// Probes add up numbers that were each rounded to fp32: with n of them and random signs the error stays far below
/// 2^-24 * sqrt(n) * their norm. Stated bound: 1e-4 of the norm, which holds up to n = 2.8 million numbers of the worst sign pattern.
constexpr double tolerance = 1e-4;

struct account {
  bool open = false;  // a process is writing it
  double residual = 0, norm = 0;
  bool in_flight = false;
  double frame = 0;
  step_number step = 0;
  round_number round = 0;  // that it was formed for
};

bool differs(double a, double b, double norm) { return std::abs(a - b) > tolerance * norm + 1e-9; }

/// Norms of contributions by (site, group, step), for judging what homes do with them.
using norms = std::map<std::tuple<site_id, group_id, step_number>, double>;

class site_masses {
public:
  site_masses(site_id site, const std::map<hash128, known_record>& records, norms& sizes, ledger_report& report, violations& wrong)
      : site_(site), records_(records), sizes_(sizes), logs_are_lost_(report.lost_logs > 0), vetoes_(report.vetoes), wrong_(wrong) {}

  void line(const site_line& l) {
    if (l.type == "started") {
      accounts_.clear();  // what a crash took is told by `restored`
      vetoed_.clear();
    }
    if (l.type == "applied") note_veto(l);
    if (l.type != "mass") return;
    const auto group = l.body->at("group").get<group_id>();
    const auto event = l.body->at("event").get<std::string>();
    if (vetoed_.erase(group) > 0 && event != "discarded")
      wrong_.add(l.where, "discarded",
                 "a record vetoes the site's contribution to group " + std::to_string(group) + ", whose mass then is gone, but `" + event +
                     "` follows");
    const auto number = [&](const char* key) { return l.body->at(key).get<double>(); };
    account& a = accounts_[group];
    const double norm = std::max(a.norm, number("norm")), residual = number("residual"), frame = number("frame");
    double expected = a.residual;
    if (event == "formed") {
      expected = a.residual - number("decayed") + number("change") - frame;
      if (a.in_flight) wrong_.add(l.where, "mass", "a contribution to group " + std::to_string(group) + " while another is in flight");
      a.in_flight = true;
      a.frame = frame;
      a.step = l.body->at("step").get<step_number>();
      a.round = l.body->at("round").get<round_number>();
      sizes_[{site_, group, a.step}] = number("norm");
      formed_[group].insert(a.step);
    } else if (event == "late") {
      expected = a.residual - number("decayed") + number("change");
    } else if (event == "counted") {
      check_counted(l, group, a, norm);
      a.in_flight = false;
      a.step = l.body->at("step").get<step_number>();
      settled_[group][a.step].push_back(residual);
    } else if (event == "discarded") {
      check_discarded(l, group, a);
      a.in_flight = false;
      a.step = l.body->at("step").get<step_number>();
      settled_[group][a.step].push_back(residual);
    } else if (event == "lost") {
      expected = a.residual + a.frame;
      if (!a.in_flight)
        wrong_.add(l.where, "mass", "a contribution to group " + std::to_string(group) + " was lost that was not in flight");
      a.in_flight = false;
    } else if (event == "added") {
      expected = a.residual + frame;
      if (!a.in_flight) settled_[group][a.step].push_back(residual);
    } else if (event == "vetoed") {
      check_vetoed(l, group);
    } else {
      expected = residual;  // restored: the process starts from here
      check_restored(l, group, residual, norm);
    }
    if (differs(residual, expected, norm))
      wrong_.add(l.where, "mass",
                 "the residual of group " + std::to_string(group) + " is " + std::to_string(residual) + " after `" + event + "`, " +
                     std::to_string(expected) + " is what the lines before add up to");
    a.residual = residual;
    a.norm = number("norm");
  }

private:
  /// Whose arithmetic went wrong contributes nothing from there on: only a new process does, from good state.
  void check_vetoed(const site_line& l, group_id group) {
    ++vetoes_;
    const auto step = l.body->at("step").get<step_number>();
    for (const auto& [hash, k] : records_)
      for (const contributor& c : k.record.contributors)
        if (k.record.group == group && c.site == site_ && c.incarnation == l.incarnation && c.step >= step)
          wrong_.add(l.where, "vetoed",
                     "the site refused what its step " + std::to_string(step) + " made of group " + std::to_string(group) + ", but round " +
                         std::to_string(k.record.round) + " has its step " + std::to_string(c.step));
  }
  /// The next thing that happens to the group's account is that the contribution's mass goes.
  void note_veto(const site_line& l) {
    const round_record r = json_lines::record_from(l.body->at("record"));
    for (const contributor& c : r.contributors)
      if (l.body->at("mine").get<bool>() && c.site == site_ && c.incarnation == l.incarnation && is_veto(c.judged)) vetoed_.insert(r.group);
  }
  void check_discarded(const site_line& l, group_id group, const account& a) {
    const auto named = find_contributions(group, l.incarnation, a.step);
    if (!a.in_flight)
      wrong_.add(l.where, "discarded", "a contribution to group " + std::to_string(group) + " was discarded that was not in flight");
    else if (std::none_of(named.begin(), named.end(), [](const contributor* c) { return is_veto(c->judged); }))
      wrong_.add(l.where, "discarded",
                 "the site discards its contribution of step " + std::to_string(a.step) + " to group " + std::to_string(group) +
                     " as vetoed, but no record says so");
  }
  void check_counted(const site_line& l, group_id group, const account& a, double norm) {
    auto named = find_contributions(group, l.incarnation, a.step);
    std::erase_if(named, [](const contributor* c) { return is_veto(c->judged); });
    const auto same = [&](const contributor* c) { return !differs(c->mass, a.frame, norm); };
    if (!a.in_flight)
      wrong_.add(l.where, "mass", "a contribution to group " + std::to_string(group) + " was counted that was not in flight");
    else if (named.empty() && logs_are_lost_ && !is_known(group, a.round))
      return;  // all who wrote that record down have lost their disks; the site learnt of it from the state that it copied
    else if (named.empty())
      wrong_.add(l.where, "mass",
                 "the site counts its contribution of step " + std::to_string(a.step) + " to group " + std::to_string(group) +
                     " as applied, but no record names it");
    else if (std::none_of(named.begin(), named.end(), same))
      wrong_.add(l.where, "mass",
                 "the record holds mass " + std::to_string(named.front()->mass) + " of this site, it sent " + std::to_string(a.frame));
  }
  /// A residual that is older than what was counted since would add the same mass once more.
  void check_restored(const site_line& l, group_id group, double residual, double norm) {
    const auto step = l.body->at("step").get<step_number>();
    auto& stood = settled_[group][step];
    const bool as_it_stood = std::any_of(stood.begin(), stood.end(), [&](double v) { return !differs(v, residual, norm); });
    if (norm > 0 && formed_[group].contains(step) && !as_it_stood)
      wrong_.add(l.where, "restored",
                 "the residual of group " + std::to_string(group) + " was restored as " + std::to_string(residual) +
                     ", which is not what it was when the contribution of step " + std::to_string(step) + " was counted");
    stood.push_back(residual);
    accounts_[group].step = step;
  }
  bool is_known(group_id group, round_number round) const {
    return std::any_of(records_.begin(), records_.end(),
                       [&](const auto& entry) { return entry.second.record.group == group && entry.second.record.round == round; });
  }
  /// More than one where a record that became void named it, and what was lost by that went again without further training.
  std::vector<const contributor*> find_contributions(group_id group, incarnation_number incarnation, step_number step) const {
    std::vector<const contributor*> found;
    for (const auto& [hash, k] : records_)
      for (const contributor& c : k.record.contributors)
        if (k.record.group == group && c.site == site_ && c.incarnation == incarnation && c.step == step) found.push_back(&c);
    return found;
  }

  site_id site_;
  const std::map<hash128, known_record>& records_;
  norms& sizes_;
  bool logs_are_lost_;
  std::uint64_t& vetoes_;
  violations& wrong_;
  std::map<group_id, account> accounts_;
  std::set<group_id> vetoed_;  // a record that vetoes the contribution in flight was applied
  /// Where the residual stood when the contribution of a step had been counted; more than once where a former home gave its own back.
  std::map<group_id, std::map<step_number, std::vector<double>>> settled_;
  std::map<group_id, std::set<step_number>> formed_;
};

/// Who is no longer a group's home gives back what it kept of it.
void check_returns(const logs& all, site_id site, const std::vector<site_line>& lines, violations& wrong) {
  struct kept {
    bool any = false, owed = false;
  };
  std::map<group_id, kept> at;
  const auto home_of = [&](epoch_number epoch, group_id group) {
    if (epoch == 0 || epoch > all.epochs.size()) return site;
    for (const group_cut& c : all.epochs[epoch - 1].entry.view.cuts)
      if (c.group == group) return c.home;
    return site;
  };
  for (const site_line& l : lines) {
    if (l.type == "started") at.clear();
    const bool formed = l.type == "mass" && l.body->at("event") == "formed";
    if (l.type != "aggregator" && l.type != "entered" && !formed) continue;
    const auto group = l.body->at("group").get<group_id>();
    kept& k = at[group];
    if (l.type == "aggregator") {
      k = {l.body->at("event") == "kept", false};
      continue;
    }
    if (k.owed)
      wrong.add(l.where, "mass", "the site ceased to be the home of group " + std::to_string(group) + " and kept what it had not sent");
    k.owed = l.type == "entered" && k.any && home_of(l.body->at("epoch").get<epoch_number>(), group) != site;
  }
}

struct kept_residual {
  double mass = 0;
  std::string where;
};

using made_record = std::tuple<site_id, group_id, round_number, epoch_number>;  // by its home

/// Records whose home lived to apply them. Of others, which a cut may have committed, nobody knows what their home kept.
std::set<made_record> applied_by_their_maker(const logs& all) {
  std::set<made_record> out;
  for (const auto& [site, lines] : all.sites) {
    std::map<made_record, incarnation_number> makers;
    for (const site_line& l : lines) {
      if (l.type != "stored" && l.type != "applied") continue;
      const auto& r = l.body->at("record");
      const made_record key(r.at("home").get<site_id>(), r.at("group").get<group_id>(), r.at("round").get<round_number>(),
                            r.at("epoch").get<epoch_number>());
      if (std::get<0>(key) != site) continue;
      if (l.type == "stored")
        makers.emplace(key, l.incarnation);
      else if (const auto maker = makers.find(key); maker != makers.end() && maker->second == l.incarnation)
        out.insert(key);
    }
  }
  return out;
}

/// Aggregators: contributions + residual before = delta + residual after, over each run of rounds that one process was home for.
void check_homes(const logs& all, const history& h, const norms& sizes, violations& wrong) {
  std::map<made_record, kept_residual> kept;
  std::set<made_record> returned;  // at once: the rounds after it keep nothing
  const auto applied = applied_by_their_maker(all);
  for (const auto& [site, lines] : all.sites)
    for (const site_line& l : lines) {
      if (l.type != "aggregator") continue;
      const made_record key(site, l.body->at("group").get<group_id>(), l.body->at("round").get<round_number>(),
                            l.body->at("epoch").get<epoch_number>());
      if (l.body->at("event") == "kept")
        kept[key] = {l.body->at("mass").get<double>(), l.where};
      else
        returned.insert(key);
    }
  for (const auto& [group, rounds] : h) {
    const known_record* before = nullptr;
    std::set<site_id> exact;  // homes that returned what they kept, and keep nothing since
    for (const auto& [number, k] : rounds) {
      const round_record& r = k->record;
      double in = 0, norm = 0;
      bool known = all.sites.contains(r.home) && applied.contains({r.home, group, number, r.epoch});
      for (const contributor& c : r.contributors) {
        if (is_veto(c.judged)) continue;
        in += c.mass - c.clipped;
        const auto size = sizes.find({c.site, group, c.step});
        known = known && size != sizes.end();
        if (size != sizes.end()) norm += size->second;
      }
      const auto after = kept.find({r.home, group, number, r.epoch});
      double residual_before = 0;
      bool judged = known;
      if (before != nullptr && before->record.home == r.home && !exact.contains(r.home)) {
        const auto left = kept.find({r.home, group, number - 1, before->record.epoch});
        if (left != kept.end())
          residual_before = left->second.mass;
        else
          judged = judged && after == kept.end();  // an aggregator with a residual whose last one is not told
        norm += std::abs(residual_before);
      }
      if (after == kept.end() && (residual_before != 0 || (!kept.empty() && !exact.contains(r.home)))) judged = false;
      const double out = r.mass + (after == kept.end() ? 0 : after->second.mass);
      if (judged && before != nullptr && before->record.epoch != r.epoch) judged = false;  // a home may have restarted between
      if (judged && differs(in + residual_before, out, norm + std::abs(r.mass)))
        wrong.add(k->where, "mass",
                  "round " + std::to_string(number) + " of group " + std::to_string(group) +
                      ": contributions and the home's residual make " + std::to_string(in + residual_before) +
                      ", delta and residual make " + std::to_string(out));
      if (after != kept.end()) exact.erase(r.home);
      if (returned.contains({r.home, group, number, r.epoch})) exact.insert(r.home);
      before = k;
    }
  }
}

}  // namespace

void check_mass(const logs& all, const history& h, const std::map<hash128, known_record>& records, ledger_report& report) {
  violations wrong(report);
  norms sizes;
  for (const auto& [site, lines] : all.sites) {
    site_masses masses(site, records, sizes, report, wrong);
    for (const site_line& l : lines) masses.line(l);
    check_returns(all, site, lines, wrong);
  }
  check_homes(all, h, sizes, wrong);
}

}  // namespace isthmus::ledger_check
