#include "actors/testing/fault_cluster.hpp"

#include "framework/checkpoint/checkpoint.hpp"
#include "framework/core/exit_code.hpp"

#include <fmt/format.h>

#include <stdexcept>

namespace isthmus::testing {

namespace {

constexpr int restarts_max = 5;
constexpr duration restart_delay = std::chrono::seconds(1);

double seconds(duration d) { return to_seconds(d); }

/// By group and round: more than one where a restart made a round void and it was held again.
std::map<std::pair<group_id, round_number>, std::set<std::string>> told_anchors(actors::cluster& run) {
  std::map<std::pair<group_id, round_number>, std::set<std::string>> told;
  for (site_id home = 0; home < run.site_count(); ++home)
    for (const auto& row : run.rows(home))
      if (const auto* r = std::get_if<round_row>(&row)) told[{static_cast<group_id>(r->group), r->round}].insert(r->anchor_hash);
  return told;
}

}  // namespace

std::string name_of(site who) { return who == coordinator ? "coordinator" : fmt::format("s{}", who.id); }

fault_cluster::fault_cluster(actors::cluster_options options) : cluster(std::move(options)) { start_all(); }

void fault_cluster::plan(at when, const std::string& what, std::function<void()> action) {
  const time_point due{when.time};
  ensure(due >= world.now(), "fault_cluster: a fault is promised for a time that is over");
  world.at(due, [this, what, act = std::move(action)] {
    world.note(what);
    act();
  });
}

void fault_cluster::happens(at when, const std::string& what, std::function<void()> action) {
  plan(when, what, std::move(action));
  promised_.push_back(fmt::format("{} s: {}", seconds(when.time), what));
}

void fault_cluster::kill(site who, at when) {
  happens(when, fmt::format("kill of {}, for good", name_of(who)), [this, who] {
    gone_.insert(who.id);
    take_down(who);
  });
}

void fault_cluster::kill(site who, at when, back_after later) {
  happens(when, fmt::format("kill of {}, back after {} s", name_of(who), seconds(later.time)), [this, who] { take_down(who); });
  plan(at(when.time + later.time), "start of " + name_of(who), [this, who] { bring_back(who); });
}

void fault_cluster::take_down(site who) {
  if (!running(who.id)) return;
  away_.insert(who.id);
  kill_site(who.id);
}

void fault_cluster::bring_back(site who) {
  if (away_.erase(who.id) == 0 || gone_.contains(who.id)) return;
  if (who == coordinator)
    start_coordinator();
  else
    start_site(who.id);
}

void fault_cluster::freeze(site who, from when, lasting time) {
  happens(at(when.time), fmt::format("freeze of {}, for {} s", name_of(who), seconds(time.time)), [this, who] { freeze_site(who.id); });
  plan(at(when.time + time.time), "thaw of " + name_of(who), [this, who] { thaw_site(who.id); });
}

void fault_cluster::cut(site one, site other, from when, lasting time) {
  happens(at(when.time), fmt::format("cut between {} and {}, for {} s", name_of(one), name_of(other), seconds(time.time)),
          [this, one, other] { net.cut_both(one.id, other.id); });
  plan(at(when.time + time.time), fmt::format("{} and {} healed", name_of(one), name_of(other)),
       [this, one, other] { net.heal_both(one.id, other.id); });
}

void fault_cluster::isolate(site who, from when, lasting time) {
  for (site_id other = 0; other < site_count(); ++other)
    if (other != who.id) cut(who, site{other}, when, time);
  if (who != coordinator) cut(who, coordinator, when, time);
}

void fault_cluster::slow(site who, double times, from when, lasting time) {
  happens(at(when.time), fmt::format("{} {} times as slow, for {} s", name_of(who), times, seconds(time.time)),
          [this, who, times] { slow_site(who.id, times); });
  plan(at(when.time + time.time), name_of(who) + " as fast as before", [this, who] { slow_site(who.id, 1); });
}

void fault_cluster::tear_next_frame(site who, at when) {
  happens(when, fmt::format("the next frame of {} torn", name_of(who)), [this, who] { net.tear_next(who.id); });
}

void fault_cluster::run_to_round(round_number round, duration limit) {
  if (!run_until([&] { return last_round() >= round; }, limit))
    throw std::runtime_error(fmt::format("round {} was not reached within {} s\n{}", round, seconds(limit), story()));
}

void fault_cluster::run_to_the_end(duration limit) {
  if (!run_until([this] { return over(); }, limit))
    throw std::runtime_error(fmt::format("the run did not end within {} s\n{}", seconds(limit), story()));
}

/// After every event.
bool fault_cluster::over() {
  bool all = true;
  for (site_id who = 0; who < site_count(); ++who) all = restart(who) && all;
  restart(coordinator_id);
  return all;
}

/// True when there is nothing to wait for; what has failed is about to be started again.
bool fault_cluster::restart(site_id who) {
  if (gone_.contains(who)) return true;
  const auto code = exit_code(who);
  if (!code) return false;
  if (*code == exit_ok || *code == exit_stopped) return true;
  if (away_.contains(who) || starting_.contains(who)) return false;
  if (++restarts_[who] > restarts_max)
    throw std::runtime_error(fmt::format("{} ended with {} once more: {}\n{}", name_of(site{who}), *code, exit_reason(who), story()));
  starting_.insert(who);
  world.after(restart_delay, [this, who] {
    starting_.erase(who);
    if (away_.contains(who) || gone_.contains(who) || running(who)) return;
    if (who == coordinator_id)
      start_coordinator();
    else
      start_site(who);
  });
  return false;
}

std::string fault_cluster::story() const {
  std::string text = fmt::format("seed {}", world.seed());
  for (const auto& fault : promised_) text += "\n  " + fault;
  text += fmt::format("\n  now: {:.3f} s, round {}", seconds(now().time), last_round());
  for (site_id who = 0; who < site_count(); ++who) {
    const auto code = exit_code(who);
    text += fmt::format(", {} {}", name_of(site{who}),
                        code ? fmt::format("ended with {} ({})", *code, exit_reason(who))
                             : std::string(frozen(who)    ? "is frozen"
                                           : running(who) ? "is at work"
                                                          : "is away"));
  }
  return text;
}

std::string describe(const ledger_report& ledgers) {
  std::string text;
  for (const auto& v : ledgers.violations) text += fmt::format("{} at {}: {}\n", v.rule, v.where, v.what);
  return text;
}

std::string anchor_differences(actors::cluster& run, const ledger_report& ledgers) {
  const auto told = told_anchors(run);
  const auto folder = run.disk.open("run");
  std::string text;
  int up_to_date = 0;
  for (site_id who = 0; who < run.site_count(); ++who) {
    if (run.exit_code(who) != exit_ok) continue;
    const auto saved = checkpoint_store(*folder, fmt::format("checkpoints/site-{}", who)).load();
    if (!saved && saved.error().code == errc::not_found) continue;  // the run was over when it came for the first time, or back
    if (!saved) {
      text += fmt::format("{} has no checkpoint that can be read: {}\n", name_of(site{who}), saved.error().message);
      continue;
    }
    bool at_the_end = true;
    for (const auto& held : saved->facts.groups) {
      const bool last = held.round == ledgers.last_round.at(held.group);
      at_the_end = at_the_end && last;
      const auto known = told.find({held.group, held.round});
      const bool right = last                  ? held.anchor_hash == ledgers.last_anchor.at(held.group)
                         : known == told.end() ? true  // a killed home took along what it had told
                                               : known->second.contains(held.anchor_hash.hex());
      if (!right) text += fmt::format("{} has another anchor of group {} in round {}\n", name_of(site{who}), held.group, held.round);
    }
    up_to_date += at_the_end;
  }
  return up_to_date == 0 && text.empty() ? "no site has finished with the last round\n" : text;
}

}  // namespace isthmus::testing
