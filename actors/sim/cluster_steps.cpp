#include "actors/sim/cluster.hpp"

#include <caf/scheduled_actor.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include <algorithm>
#include <utility>

/// How time passes in a cluster: which actor runs next, who stands still, and when the clock moves.
namespace isthmus::actors {

namespace {

caf::scheduler::test_coordinator& scheduler_of(caf::actor_system& system) {
  return dynamic_cast<caf::scheduler::test_coordinator&>(system.scheduler());
}

}  // namespace

/// Actors that `spawn` makes run for this process.
void cluster::spawn_as(site_id site, const std::function<void()>& spawn) {
  const caf::actor_id before = system_->latest_actor_id();
  spawn();
  for (caf::actor_id id = before + 1; id <= system_->latest_actor_id(); ++id) process_of_[id] = site;
}

void cluster::freeze_site(site_id site) {
  if (!sites_.contains(site) || !frozen_.insert(site).second) return;
  world.note("freeze " + std::to_string(site));
  for (site_id other = 0; other < options_.sites; ++other) net.hold(other, site);
  net.hold(coordinator_id, site);
}

void cluster::thaw_site(site_id site) {
  if (frozen_.erase(site) == 0) return;
  world.note("thaw " + std::to_string(site));
  for (site_id other = 0; other < options_.sites; ++other) net.release(other, site);
  net.release(coordinator_id, site);
  let_run();
}

void cluster::let_run() {
  auto& scheduler = scheduler_of(*system_);
  scheduler.jobs.insert(scheduler.jobs.end(), stuck_.begin(), stuck_.end());
  stuck_.clear();
}

void cluster::let_go() {
  held_.clear();
  let_run();
}

/// An actor that waits for a slow disk, or whose process is frozen, or that a test holds.
bool cluster::stands_still(const caf::scheduled_actor& actor, const site_id* process) const {
  if (actor.name() == held_ || (process != nullptr && frozen_.contains(*process))) return true;
  const auto busy = busy_until_.find(actor.id());
  return busy != busy_until_.end() && busy->second > world.now();
}

/// What an actor that ran has to pay for files that it synced.
void cluster::wait_for_disk(caf::actor_id actor, site_id process) {
  const auto slow = slow_disks_.find(process);
  const int syncs = std::exchange(syncs_, 0);
  const auto dead = dead_up_to_.find(process);
  if (dead != dead_up_to_.end() && actor <= dead->second) return;  // it is to hear that it was killed, and nothing else
  if (syncs == 0 || slow == slow_disks_.end() || slow->second.count() == 0) return;
  busy_until_[actor] = world.now() + slow->second * syncs;
  world.at(busy_until_[actor], [this, actor] {
    busy_until_.erase(actor);
    let_run();
  });
}

void cluster::step() {
  auto& scheduler = scheduler_of(*system_);
  while (!scheduler.jobs.empty()) {
    const auto pick = static_cast<std::ptrdiff_t>(interleaving_.below(scheduler.jobs.size()));
    std::rotate(scheduler.jobs.begin(), scheduler.jobs.begin() + pick, scheduler.jobs.begin() + pick + 1);
    const auto* actor = dynamic_cast<caf::scheduled_actor*>(scheduler.jobs.front());
    const auto process = actor == nullptr ? process_of_.end() : process_of_.find(actor->id());
    const site_id* owner = process == process_of_.end() ? nullptr : &process->second;
    if (actor != nullptr && stands_still(*actor, owner)) {
      stuck_.push_back(scheduler.jobs.front());
      scheduler.jobs.pop_front();
      continue;
    }
    const auto run = [&] { scheduler.try_run_once(); };
    if (owner == nullptr) {
      run();
      continue;
    }
    const site_id site = *owner;  // who is spawned is written beside it
    const caf::actor_id ran = actor->id();
    syncs_ = 0;
    spawn_as(site, run);
    wait_for_disk(ran, site);
  }
}

bool cluster::step_until(time_point end, const std::function<bool()>& holds) {
  auto& clock = scheduler_of(*system_).clock();
  for (;;) {
    step();
    if (holds && holds()) return true;
    if (world.run_due()) continue;
    time_point next = end;
    if (const auto due = world.next_due()) next = std::min(next, *due);
    if (!clock.schedule().empty()) next = std::min<time_point>(next, clock.schedule().begin()->first);
    if (next < world.now()) next = world.now();
    world.advance_to(next);
    clock.current_time = next;
    if (!clock.schedule().empty() && clock.schedule().begin()->first <= next) {
      clock.trigger_timeout();
    } else if (next >= end && !(world.next_due() && *world.next_due() <= next)) {
      return false;
    }
  }
}

void cluster::run_for(duration d) { step_until(world.now() + d, {}); }
bool cluster::run_until(const std::function<bool()>& holds, duration limit) { return step_until(world.now() + limit, holds); }

}  // namespace isthmus::actors
