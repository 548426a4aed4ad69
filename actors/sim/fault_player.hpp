#pragma once

#include "actors/sim/cluster.hpp"
#include "framework/core/rng.hpp"
#include "framework/sim/fault_plan.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>

namespace isthmus::actors {

/// Makes a cluster suffer faults, each for its time; all of them but those that take a process down, which is its owner's business.
class fault_player {
public:
  /// Both outlive it. draws: for what a fault leaves open.
  fault_player(cluster& c, rng& draws) : cluster_(c), draws_(draws) {}

  void play(const sim::planned_fault& f);
  /// Undoes what began, when its time is over or when all is healed, once.
  void until(duration lasts, std::function<void()> undo);
  void heal();
  /// Behind a site's optimizer step: spoils what it wrote, if a fault wants so. For cluster_options::after_update.
  void after_update(site_id site, const optimizer_slice& s);

private:
  void clog(site_id site, site_id peer, duration lasts);
  void swizzle(const sim::planned_fault& f);
  void hurt_disk(const sim::planned_fault& f);
  void rot_checkpoint(site_id site);
  void run_undo(std::uint64_t key);

  cluster& cluster_;
  rng& draws_;
  std::map<std::uint64_t, std::function<void()>> undo_;  // what is under way, by its number
  std::map<site_id, double> slowness_;
  std::map<site_id, std::multiset<duration>> slow_disks_;
  std::map<site_id, double> wall_offsets_;
  std::map<site_id, fault_kind> spoils_;             // of the next optimizer step
  std::map<site_id, std::set<std::string>> rotten_;  // checkpoints that have been damaged
  std::uint64_t serial_ = 0;
};

}  // namespace isthmus::actors
