#pragma once

#include "framework/sim/fault_plan.hpp"
#include "framework/core/clock.hpp"
#include "framework/metrics/run_store.hpp"
#include "framework/rounds/restart_budget.hpp"
#include "launcher/console.hpp"
#include "launcher/process.hpp"
#include "launcher/run_folder.hpp"
#include "launcher/view.hpp"

#include <signal.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace isthmus::launcher {

/// Blocks the signals that a launcher hears, in this thread and those to come, until somebody asks for them.
sigset_t hold_signals();

/// Starts a run's processes, keeps them up within a budget, rehearses the recipe's faults, hears signals and shows what goes on, until
/// the run has ended. Places nothing and agrees on nothing: that is the coordinator's and the sites' part.
class conductor {
public:
  /// run has its roster; all three outlive it.
  conductor(run_folder& run, launch_memory& memory, console& out);
  ~conductor();
  /// Gives the run's exit code.
  int conduct();
  /// Why, in plain words.
  const std::string& reason() const { return reason_; }
  /// Sites that were given up, each with why.
  const std::vector<std::string>& lost() const { return lost_; }

private:
  struct member {
    std::string name;
    std::int64_t site = -1;  // -1: the coordinator
    std::optional<process> child;
    std::optional<time_point> start_at, continue_at;  // a restart, a SIGCONT that is due
    restart_budget budget{5, std::chrono::minutes(2)};
    int starts = 0;
    bool killed_by_rehearsal = false, over = false;
    int code = 0;  // of the last end
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
  void fire(std::size_t index, const sim::planned_fault& f);
  void hear_signals();
  void stop_all(const std::string& why);
  void kill_all();
  void dismiss_coordinator(time_point now);
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
  live_display display_;
  real_clock clock_;
  run_store_writer store_;
  std::optional<run_store_reader> reader_;
  std::vector<sim::planned_fault> faults_;
  std::vector<member> members_;  // the coordinator first
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
