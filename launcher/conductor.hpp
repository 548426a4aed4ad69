#pragma once

#include "framework/sim/fault_plan.hpp"
#include "framework/core/clock.hpp"
#include "framework/core/rng.hpp"
#include "framework/metrics/run_store.hpp"
#include "framework/rounds/restart_budget.hpp"
#include "launcher/console.hpp"
#include "launcher/process.hpp"
#include "launcher/process_use.hpp"
#include "launcher/run_folder.hpp"
#include "launcher/stage.hpp"
#include "launcher/view.hpp"

#include <signal.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace isthmus::launcher {

/// Blocks the signals that a launcher hears, in this thread and those to come, until somebody asks for them.
sigset_t hold_signals();

/// A fault that was done; times are wall seconds. ended: 0 while it lasts.
struct played_fault {
  sim::planned_fault fault;
  double began = 0, ended = 0;
};

/// Starts a run's processes, keeps them up within a budget, rehearses the recipe's faults, hears signals and shows what goes on, until
/// the run has ended. Places nothing and agrees on nothing: that is the coordinator's and the sites' part.
class conductor {
public:
  /// run has its roster; all outlive it. where: the stage of a rehearsal, whose fault phase and healing are then followed; null: this
  /// machine as it is, where processes are killed and stopped only.
  conductor(run_folder& run, launch_memory& memory, console& out, stage* where = nullptr);
  ~conductor();
  /// Gives the run's exit code.
  int conduct();
  /// Why, in plain words.
  const std::string& reason() const { return reason_; }
  /// Sites that were given up, each with why.
  const std::vector<std::string>& lost() const { return lost_; }
  /// What was done to the run, in the order of its beginning.
  const std::vector<played_fault>& played() const { return played_; }
  /// Of a rehearsal: what each process held while it went on, by name.
  const std::map<std::string, std::vector<process_use>>& uses() const { return uses_; }

private:
  struct member {
    std::string name;
    std::int64_t site = -1;  // -1: a coordinator
    std::size_t place = 0;   // of a coordinator: which
    std::optional<process> child;
    std::optional<time_point> start_at;  // a restart that is due
    restart_budget budget{5, std::chrono::minutes(2)};
    int starts = 0;
    int taken_down = 0, stopped = 0, disk_full = 0;  // by so many faults that last
    int expected_signal = 0;                         // of the fault that ends it, until it has ended
    bool disk_lost = false;                          // with it
    time_point device_back_at{};                     // at the earliest, after a rehearsed failure
    double slowness = 1;
    bool over = false;
    int code = 0;  // of the last end
    site_id id() const { return site < 0 ? coordinator_id : static_cast<site_id>(site); }
  };

  void start(member& m);
  void end_stragglers(time_point now);
  void reap();
  void on_end(member& m, const process_end& end);
  void try_again(member& m, const std::string& how);
  void lose(member& m, int code, const std::string& how);
  std::size_t sites_needed() const;
  std::uintmax_t log_bytes() const;  // of the coordinator's log
  std::string lost_text() const;
  void give_up(int code, const std::string& why);
  void due(time_point now);
  void fire_faults(const run_view& view);
  bool fire(const sim::planned_fault& f);
  void hurt_process(member& m, const sim::planned_fault& f);
  void hurt_links(const sim::planned_fault& f);
  void swizzle(const sim::planned_fault& f);
  void take_down(member& m, const sim::planned_fault& f, int signal);
  void until(const sim::planned_fault& f, std::function<void()> undo);
  void end_fault(std::size_t number);
  void heal();
  void follow_scenario(time_point now);
  void look_at_processes();
  void hear_signals();
  void stop_all(const std::string& why);
  void kill_all();
  void dismiss_coordinators(time_point now);
  void dismiss_standing_by();
  void mark_down(const member& m);
  bool sites_ended() const;
  bool all_ended() const;
  void look();
  void event(const std::string& kind, const std::string& text);
  void remember();
  void put_run_row(const std::string& state);
  std::string log_of(const member& m) const;
  std::string last_log_line(const member& m) const;

  run_folder& run_;
  launch_memory& memory_;
  console& out_;
  stage* stage_;
  live_display display_;
  real_clock clock_;
  run_store_writer store_;
  std::optional<run_store_reader> reader_;
  std::vector<sim::planned_fault> faults_;
  std::vector<member> members_;         // coordinators first
  std::string leader_ = "coordinator";  // the one that leads, as far as is known
  std::vector<played_fault> played_;
  std::map<std::string, std::vector<process_use>> uses_;
  struct undoing {
    time_point due;
    std::function<void()> undo;
  };
  std::map<std::size_t, undoing> lasting_;  // by place in played_
  std::multimap<time_point, std::function<void()>> soon_;
  std::set<std::string> rotten_;         // checkpoints that were damaged
  rng draws_;                            // of what a fault leaves to chance
  std::optional<time_point> healed_at_;  // when the fault phase was over
  run_row row_;
  int signals_ = -1;  // descriptor
  time_point began_;
  double trained_before_ = 0;
  std::int64_t last_event_ = 0;
  int asked_to_stop_ = 0;
  bool stopping_ = false;
  std::optional<time_point> finished_at_;  // when the coordinator had ended, the run being finished
  std::optional<time_point> stop_deadline_, dismiss_at_;
  bool dismissed_ = false;
  std::uintmax_t log_at_start_ = 0;
  std::vector<std::string> lost_;
  int code_ = 0;
  std::string reason_;
};

}  // namespace isthmus::launcher
