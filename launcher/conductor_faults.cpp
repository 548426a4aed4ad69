#include "launcher/conductor.hpp"

#include "launcher/site_disk.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <set>

/// What a recipe does to its own run, and when.
namespace isthmus::launcher {

namespace {
using namespace std::chrono_literals;
constexpr auto end_patience = 10s;         // of a run that did not end in time, before it is killed
constexpr auto restart_of_device = 400ms;  // signals do not queue, and a device that is failing cannot fail again
}  // namespace

void conductor::due(time_point now) {
  std::vector<std::size_t> over;
  for (const auto& [number, lasting] : lasting_)
    if (now >= lasting.due) over.push_back(number);
  for (const auto number : over) end_fault(number);
  while (!soon_.empty() && soon_.begin()->first <= now) soon_.extract(soon_.begin()).mapped()();
  for (auto& m : members_) {
    if (!m.start_at || now < *m.start_at || m.child) continue;  // one that was killed is first seen to have ended
    m.start_at.reset();
    if (stopping_ || finished_at_)
      m.over = true;
    else
      start(m);
  }
}

void conductor::fire_faults(const run_view& view) {
  if (healed_at_) return;
  const double trained = trained_before_ + to_seconds(clock_.now() - began_);
  for (std::size_t i = 0; i < faults_.size(); ++i) {
    const auto& when = faults_[i].trigger;
    const bool fired = std::find(memory_.faults_fired.begin(), memory_.faults_fired.end(), i) != memory_.faults_fired.end();
    const bool now = when.at_round > 0    ? view.committed >= static_cast<round_number>(when.at_round)
                     : when.at_tokens > 0 ? view.tokens >= static_cast<std::uint64_t>(when.at_tokens)
                                          : trained >= when.at_seconds;
    if (!fired && now && fire(faults_[i])) {
      memory_.faults_fired.push_back(i);
      remember();
    }
  }
}

/// False when its process is not up, or its device may not be up again: it fires when that is back.
bool conductor::fire(const sim::planned_fault& f) {
  const auto m = std::find_if(members_.begin(), members_.end(),
                              [&](const member& o) { return o.id() == f.site && (o.site >= 0 || o.name == leader_); });
  if (m == members_.end() || (!is_of_links(f.kind) && !m->child)) return false;
  if (f.kind == fault_kind::device && clock_.now() < m->device_back_at) return false;
  event("fault", fmt::format("rehearsal: {}", sim::describe(f)));
  played_.push_back({f, clock_.wall_seconds(), 0});
  if (is_of_links(f.kind))
    hurt_links(f);
  else
    hurt_process(*m, f);
  if (!lasting_.contains(played_.size() - 1)) played_.back().ended = played_.back().began;  // over as soon as it was done
  return true;
}

/// Undoes the fault that was played last when its time is over, or when all is healed.
void conductor::until(const sim::planned_fault& f, std::function<void()> undo) {
  lasting_[played_.size() - 1] = {clock_.now() + f.lasts, std::move(undo)};
}

void conductor::end_fault(std::size_t number) {
  auto ending = lasting_.extract(number);
  if (ending.empty()) return;
  played_[number].ended = clock_.wall_seconds();
  ending.mapped().undo();
}

void conductor::take_down(member& m, const sim::planned_fault& f, int signal) {
  m.expected_signal = signal;
  m.start_at.reset();
  m.child->signal(signal);
  ++m.taken_down;
  until(f, [this, &m] {
    if (--m.taken_down == 0 && !m.over) m.start_at = clock_.now();
  });
}

/// Each link with an even chance, from some instant of the first half on.
void conductor::swizzle(const sim::planned_fault& f) {
  const auto part = [&] { return duration(draws_.below(static_cast<std::uint64_t>(f.lasts.count()) / 2 + 1)); };
  const auto clogged = std::make_shared<std::set<site_id>>();
  const auto release = [this, site = f.site](site_id peer) { stage_->links().release(site, peer), stage_->links().release(peer, site); };
  for (const site_id peer : f.peers) {
    if (draws_.below(2) == 0) continue;
    const auto begins = clock_.now() + part();
    soon_.emplace(begins, [this, clogged, site = f.site, peer, number = played_.size() - 1] {
      if (!lasting_.contains(number)) return;  // healed before it begins
      stage_->links().hold(site, peer), stage_->links().hold(peer, site);
      clogged->insert(peer);
    });
    soon_.emplace(begins + part(), [clogged, peer, release] {
      if (clogged->erase(peer) > 0) release(peer);
    });
  }
  until(f, [clogged, release] {
    for (const auto peer : *clogged) release(peer);
    clogged->clear();
  });
}

void conductor::hurt_process(member& m, const sim::planned_fault& f) {
  switch (f.kind) {
    case fault_kind::wipe: m.disk_lost = true; return take_down(m, f, SIGKILL);
    case fault_kind::kill:
    case fault_kind::power: return take_down(m, f, SIGKILL);  // what the kernel had of its files, it keeps
    case fault_kind::leave: return take_down(m, f, SIGTERM);
    case fault_kind::device:
      m.device_back_at = clock_.now() + restart_of_device;
      return m.child->signal(SIGUSR2);  // the site starts it again
    case fault_kind::stop:
      ++m.stopped;
      m.child->signal(SIGSTOP);
      return until(f, [this, &m] {
        if (--m.stopped > 0) return;
        if (m.child) m.child->signal(SIGCONT);
        event("fault", fmt::format("{} goes on (SIGCONT)", m.name));
      });
    case fault_kind::disk_full:
      ++m.disk_full;
      m.child->allow_files_to_grow(false);
      return until(f, [&m] {
        if (--m.disk_full == 0 && m.child) m.child->allow_files_to_grow(true);
      });
    case fault_kind::slow:
      m.slowness *= f.trigger.amount;
      stage_->slow(m.id(), m.slowness);
      return until(f, [this, &m, factor = f.trigger.amount] { stage_->slow(m.id(), m.slowness /= factor); });
    case fault_kind::rot: rot_checkpoint(run_.path, f.site, rotten_, draws_); return;
    case fault_kind::tear: return stage_->links().tear_next(f.site);
    default: return;
  }
}

void conductor::hurt_links(const sim::planned_fault& f) {
  if (f.kind == fault_kind::swizzle) return swizzle(f);
  std::vector<std::function<void()>> undo;
  for (const site_id peer : f.peers)
    if (auto one = sim::hurt_link(stage_->links(), f, peer)) undo.push_back(std::move(one));
  if (undo.empty()) return;
  until(f, [undo = std::move(undo)] {
    for (const auto& one : undo) one();
  });
}

void conductor::heal() {
  healed_at_ = clock_.now();
  event("healed", "the fault phase is over");
  while (!lasting_.empty()) end_fault(lasting_.begin()->first);
}

void conductor::look_at_processes() {
  for (const auto& m : members_)
    if (m.child)
      if (const auto use = look_at_process(m.child->pid(), clock_.wall_seconds())) uses_[m.name].push_back(*use);
}

void conductor::follow_scenario(time_point now) {
  const auto& scenario = run_.plan.scenario;
  if (!healed_at_) {
    if (finished_at_ || now >= began_ + from_seconds(scenario.fault_seconds)) heal();
    return;
  }
  if (stopping_ || now < *healed_at_ + from_seconds(scenario.heal_seconds)) return;
  give_up(exit_violated, fmt::format("the healed run did not end within {} s", scenario.heal_seconds));
  stop_deadline_ = now + end_patience;
}

}  // namespace isthmus::launcher
