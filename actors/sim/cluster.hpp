#pragma once

#include "actors/coordinator.hpp"
#include "actors/sim/arithmetic.hpp"
#include "actors/sim/hostile.hpp"
#include "framework/rounds/ledger_check.hpp"
#include "framework/sim/disk.hpp"
#include "framework/sim/network.hpp"
#include "framework/sim/world.hpp"

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/fwd.hpp>
#include <caf/resumable.hpp>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace isthmus::actors {

struct cluster_options {
  std::uint64_t seed = 1;                                   // of everything: arithmetic, network, the order in which actors run
  std::uint32_t sites = 3;                                  // s0, s1, ...
  std::vector<std::string> overrides{};                     // of the recipe: "key.path=value"
  duration gradient_takes = std::chrono::milliseconds(50);  // virtual time of one inner step
  std::string recipe{};                                     // TOML without sites, seed and text; empty: a model of 13 thousand parameters
  std::optional<isthmus::recipe> plan{};                    // instead: a whole one; seed, sites, overrides and step time come with it
  /// Called behind each optimizer step of a site, with the weights that it wrote: a fault may spoil them.
  std::function<void(site_id, incarnation_number, const optimizer_slice&)> after_update{};
  /// Hears each event as it happens, with its virtual time in seconds.
  std::function<void(double seconds, const event_row&)> on_event{};
  /// Called before each slice of a device's work, in its actor: what it throws is the device's failure.
  std::function<void(site_id, std::uint32_t device, device_work)> before_work{};
  own_codecs codecs{};  // that the recipe may name beside ours
};

/// A whole run in one thread: the real actors of every site and the coordinator, on simulated time, network and disk, trained on
/// synthetic text. The same seed gives the same history, event for event: world.digest() is a hash of all of it.
class cluster {
public:
  /// Throws std::runtime_error naming what is wrong with the recipe.
  explicit cluster(cluster_options options);
  ~cluster();

  void start_all();
  void start_site(site_id site);
  /// With another recipe, as one that was edited: "key.path=value".
  void start_site(site_id site, const std::vector<std::string>& overrides);
  /// All that it has on its disk is lost: it counts its incarnations from 1 again.
  void wipe_site(site_id site);
  void start_coordinator();
  /// As SIGKILL: nothing of it runs any further; what it wrote stays.
  void kill_site(site_id site);
  void kill_coordinator();
  void drain_site(site_id site);
  /// As SIGSTOP: nothing of it runs until thaw_site; what comes for it waits.
  void freeze_site(site_id site);
  void thaw_site(site_id site);
  bool frozen(site_id site) const { return frozen_.contains(site); }
  /// From now on its steps take so many times as long.
  void slow_site(site_id site, double factor) { slowness_[site] = factor; }
  /// From now on whatever syncs a file of the site's process stands still for so long.
  void slow_disk(site_id site, duration each) { slow_disks_[site] = each; }
  /// From now on its wall clock differs by so many seconds.
  void set_wall(site_id site, double seconds) { wall_offsets_[site] = seconds; }
  /// Files and folders on the disk that are a process's own, as named from its root: a site's ledger and checkpoints, the coordinator's log.
  static std::vector<std::string> files_of(site_id site);
  /// From now on the site does wrong in that way (a hostile kind; amount: of scale), or, with nothing, right again.
  void corrupt_site(site_id site, std::optional<fault_kind> how, double amount = 1);
  /// Fails the actor of one device.
  void fail_device(site_id site, std::uint32_t device);
  /// Fails another actor of a site, by the name that its supervisor gives it: "metrics", "group 0", "link to 1".
  void fail_child(site_id site, const std::string& name);
  /// Actors of that name ("metrics", "checkpoint") stand still, at every site, until let go: as one whose disk does not answer.
  void hold(const std::string& actor) { held_ = actor; }
  void let_go();
  /// Fails the actor of one of its links (a site's, or the coordinator's).
  void fail_link(site_id site, site_id peer);

  void run_for(duration d);
  /// Runs until it holds, at most so long in virtual time; false if it never did.
  bool run_until(const std::function<bool()>& holds, duration limit);

  bool running(site_id site) const { return sites_.contains(site); }
  /// For tests' own actors: where they are spawned, and the supervisor of a running site.
  caf::actor_system& system() { return *system_; }
  caf::actor root(site_id site) const;
  std::uint32_t site_count() const { return options_.sites; }
  std::optional<int> exit_code(site_id site) const;
  std::string exit_reason(site_id site) const;  // of its last end
  /// Exit code 0 of every site.
  bool all_finished() const;
  /// The last round that a home of group 0 told of.
  round_number last_round() const;
  ledger_report ledgers();
  /// What the run has written, as everybody sees it.
  const storage& run_folder() const { return *run_folder_; }
  std::string describe_violations();
  /// Trained in rounds of group 0 that homes told of.
  std::uint64_t tokens() const { return tokens_; }
  /// What the site's metrics actor has written.
  const std::vector<store_row>& rows(site_id site) { return rows_[site]; }
  std::vector<double> losses(site_id site);
  bool has_event(const std::string& kind, const std::string& part_of_text);
  /// What sites and coordinator told people so far.
  const std::vector<event_row>& events() const { return events_; }

  sim::world world;
  sim::network net;
  sim::disk disk;
  recipe plan;

private:
  struct node;
  class recorder;
  struct config;
  void tell(const event_row& event);
  void step();
  void let_run();
  bool stands_still(const caf::scheduled_actor& actor, const site_id* process) const;
  void wait_for_disk(caf::actor_id actor, site_id process);
  void watch(site_id site, const node& at);
  arithmetic_hooks hooks_of(site_id site, incarnation_number incarnation) const;
  duration step_takes(site_id site) const;
  void spawn_as(site_id site, const std::function<void()>& spawn);
  bool step_until(time_point end, const std::function<bool()>& holds);
  std::shared_ptr<const token_shard> shard_of(site_id site);
  audit_means audits_of(const recipe& own, site_id site, std::function<site_arithmetic()> arithmetic);

  cluster_options options_;
  std::string arithmetic_;  // grid | model
  rng interleaving_, lives_;
  std::unique_ptr<config> config_;
  std::unique_ptr<caf::actor_system> system_;
  std::unique_ptr<storage> run_folder_;
  std::map<site_id, std::unique_ptr<node>> sites_;
  std::vector<std::unique_ptr<node>> graveyard_;  // stopped transports outlive the last message to them
  std::map<site_id, std::shared_ptr<const token_shard>> shards_;
  std::map<site_id, std::vector<store_row>> rows_;
  std::map<site_id, int> exits_;
  std::map<site_id, std::string> reasons_;
  std::vector<event_row> events_;
  std::string held_;  // actors of that name stand still; "": nobody
  std::set<site_id> frozen_;
  std::map<site_id, double> slowness_;
  std::map<site_id, std::unique_ptr<hostile_hand>> hostile_;
  std::map<site_id, duration> slow_disks_;
  std::map<site_id, double> wall_offsets_;
  std::map<caf::actor_id, time_point> busy_until_;  // actors that wait for a slow disk
  std::map<site_id, caf::actor_id> dead_up_to_;     // of the process that was killed last, its newest actor
  int syncs_ = 0;                                   // of the actor that runs now
  std::map<caf::actor_id, site_id> process_of_;     // whom an actor runs for: who spawned it does, too
  std::vector<caf::resumable*> stuck_;              // actors that have something to do, and stand still
  round_number last_round_ = 0;
  std::uint64_t tokens_ = 0;
};

}  // namespace isthmus::actors
