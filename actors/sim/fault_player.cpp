#include "actors/sim/fault_player.hpp"

#include "actors/site_start.hpp"

#include <algorithm>
#include <bit>
#include <limits>

namespace isthmus::actors {

using sim::planned_fault;

void fault_player::until(duration lasts, std::function<void()> undo) {
  const auto key = ++serial_;
  undo_[key] = std::move(undo);
  cluster_.world.after(lasts, [this, key] { run_undo(key); });
}

void fault_player::run_undo(std::uint64_t key) {
  const auto found = undo_.find(key);
  if (found == undo_.end()) return;
  const auto undo = std::move(found->second);
  undo_.erase(found);
  undo();
}

void fault_player::heal() {
  while (!undo_.empty()) run_undo(undo_.begin()->first);
  spoils_.clear();
}

void fault_player::play(const planned_fault& f) {
  const site_id site = f.site;
  switch (f.kind) {
    case fault_kind::stop: cluster_.freeze_site(site); return until(f.lasts, [this, site] { cluster_.thaw_site(site); });
    case fault_kind::device:
      if (cluster_.running(site)) cluster_.fail_device(site, static_cast<std::uint32_t>(cluster_.plan.sites[site].devices - 1));
      return;
    case fault_kind::slow:
      slowness_.try_emplace(site, 1).first->second *= f.trigger.amount;
      cluster_.slow_site(site, slowness_[site]);
      return until(f.lasts, [this, site, by = f.trigger.amount] { cluster_.slow_site(site, slowness_[site] /= by); });
    case fault_kind::tear: return cluster_.net.tear_next(site);
    case fault_kind::clock: {
      const double by = draws_.below(2) == 0 ? f.trigger.amount : -f.trigger.amount;
      cluster_.set_wall(site, wall_offsets_[site] += by);
      return until(f.lasts, [this, site, by] { cluster_.set_wall(site, wall_offsets_[site] -= by); });
    }
    case fault_kind::nan:
    case fault_kind::bit_flip: spoils_[site] = f.kind; return;
    case fault_kind::disk_full:
    case fault_kind::disk_error:
    case fault_kind::slow_disk:
    case fault_kind::rot: return hurt_disk(f);
    case fault_kind::swizzle: return swizzle(f);
    default: break;
  }
  if (is_hostile(f.kind)) {
    cluster_.corrupt_site(site, f.kind, f.trigger.amount);
    return until(f.lasts, [this, site] { cluster_.corrupt_site(site, std::nullopt); });
  }
  if (is_of_links(f.kind))
    for (const site_id peer : f.peers)
      if (auto undo = sim::hurt_link(cluster_.net, f, peer)) until(f.lasts, std::move(undo));
}

void fault_player::after_update(site_id site, const optimizer_slice& s) {
  const auto found = spoils_.find(site);
  if (found == spoils_.end() || s.begin == s.end) return;
  float& weight = s.weights[static_cast<std::size_t>(s.begin) + draws_.below(static_cast<std::uint64_t>(s.end - s.begin))];
  weight = found->second == fault_kind::nan ? std::numeric_limits<float>::quiet_NaN()
                                            : std::bit_cast<float>(std::bit_cast<std::uint32_t>(weight) ^ (1U << draws_.below(32)));
  spoils_.erase(found);
}

void fault_player::hurt_disk(const planned_fault& f) {
  auto& disk = cluster_.disk;
  const site_id site = f.site;
  switch (f.kind) {
    case fault_kind::disk_full:
      for (const auto& name : cluster::files_of(site)) disk.fill(name);
      return until(f.lasts, [&disk, site] {
        for (const auto& name : cluster::files_of(site)) disk.make_room(name);
      });
    case fault_kind::disk_error:
      for (const auto& name : cluster::files_of(site)) disk.break_down(name);
      return until(f.lasts, [&disk, site] {
        for (const auto& name : cluster::files_of(site)) disk.repair(name);
      });
    case fault_kind::slow_disk: {
      auto& slow = slow_disks_[site];
      const duration each = from_seconds(f.trigger.amount);
      slow.insert(each);
      cluster_.slow_disk(site, *slow.rbegin());
      return until(f.lasts, [this, site, each] {
        auto& now = slow_disks_[site];
        now.erase(now.find(each));
        cluster_.slow_disk(site, now.empty() ? duration{} : *now.rbegin());
      });
    }
    default: return rot_checkpoint(site);
  }
}

/// One good copy stays: of a site's checkpoints, all but one may be damaged.
void fault_player::rot_checkpoint(site_id site) {
  const auto& disk = cluster_.run_folder();
  const std::string folder = checkpoint_folder(site);
  std::vector<std::string> good;
  for (const auto& name : disk.list(folder))
    if (disk.exists(folder + "/" + name + "/manifest.json") && !rotten_[site].contains(name)) good.push_back(name);
  if (good.size() < 2) return;
  const std::string victim = good[draws_.below(good.size())];
  const auto files = disk.list(folder + "/" + victim);
  if (cluster_.disk.rot("run/" + folder + "/" + victim + "/" + files[draws_.below(files.size())], draws_)) rotten_[site].insert(victim);
}

void fault_player::clog(site_id site, site_id peer, duration lasts) {
  auto& net = cluster_.net;
  net.hold(site, peer), net.hold(peer, site);
  until(lasts, [&net, site, peer] { net.release(site, peer), net.release(peer, site); });
}

/// Each link with an even chance, from some instant of the first half on.
void fault_player::swizzle(const planned_fault& f) {
  const auto part = [&] { return duration(draws_.below(static_cast<std::uint64_t>(f.lasts.count()) / 2 + 1)); };
  for (const site_id peer : f.peers) {
    if (draws_.below(2) == 0) continue;
    const duration begins = part(), lasts = part();
    const auto key = ++serial_;
    undo_[key] = [] {};  // healed before it begins: it does not begin
    cluster_.world.after(begins, [this, key, site = f.site, peer, lasts] {
      if (undo_.erase(key) > 0) clog(site, peer, lasts);
    });
  }
}

}  // namespace isthmus::actors
