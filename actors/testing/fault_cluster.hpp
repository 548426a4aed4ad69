#pragma once

#include "actors/sim/cluster.hpp"

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

/// Fault tests that read like prose. Nothing here needs a test framework; boost_test.hpp adds the checks of Boost.Test.
namespace isthmus::testing {

/// The words of a fault. Times count from the start of the run.
struct site {
  site_id id = 0;
  bool operator==(const site&) const = default;
};
inline constexpr site coordinator{coordinator_id};
struct at {
  explicit at(duration d) : time(d) {}
  duration time;
};
struct from {
  explicit from(duration d) : time(d) {}
  duration time;
};
struct lasting {
  explicit lasting(duration d) : time(d) {}
  duration time;
};
struct back_after {
  explicit back_after(duration d) : time(d) {}
  duration time;
};

/// A simulated run that is started, and to which faults are promised before or while it runs:
///
///     fault_cluster cluster({.seed = 7});
///     cluster.kill(site{1}, at(2s), back_after(1s));
///     cluster.cut(site{0}, site{2}, from(3s), lasting(2s));
///     cluster.run_to_the_end();
///
/// A time that is over throws contract_error. docs/faults.md says what each fault does.
class fault_cluster : public actors::cluster {
public:
  /// Throws std::runtime_error naming what is wrong with the recipe.
  explicit fault_cluster(actors::cluster_options options = {});

  /// As SIGKILL. Without back_after it stays away, and the end of the run does not wait for it.
  void kill(site who, at when);
  void kill(site who, at when, back_after later);
  /// As SIGSTOP, then SIGCONT.
  void freeze(site who, from when, lasting time);
  /// Nothing crosses between the two, either way, and both still believe in their link.
  void cut(site one, site other, from when, lasting time);
  /// Cut off from everybody, the coordinator too.
  void isolate(site who, from when, lasting time);
  /// Its steps take so many times as long.
  void slow(site who, double times, from when, lasting time);
  /// The next bulk message of this site arrives one byte short.
  void tear_next_frame(site who, at when);
  /// Anything else; `what` is how a failure tells it.
  void happens(at when, const std::string& what, std::function<void()> action);

  at now() const { return at(world.now().time_since_epoch()); }
  /// Until the homes have told of that round of group 0. Throws std::runtime_error with the story when that takes too long.
  void run_to_round(round_number round, duration limit = std::chrono::minutes(2));
  /// Until every site that is not away for good has finished, or was stopped on purpose. What ends with an error is started again after a
  /// second, as the launcher does, five times at most. Throws std::runtime_error with the story when a site gives up or time runs out.
  void run_to_the_end(duration limit = std::chrono::minutes(10));

  /// The seed, the faults that were promised, and how far the run is: what a failing test should print.
  std::string story() const;

private:
  void plan(at when, const std::string& what, std::function<void()> action);
  void take_down(site who);
  void bring_back(site who);
  bool over();
  bool restart(site_id who);

  std::vector<std::string> promised_;  // faults, in words
  std::set<site_id> away_;             // killed and not back yet
  std::set<site_id> gone_;             // killed for good
  std::set<site_id> starting_;
  std::map<site_id, int> restarts_;
};

/// "s1", "coordinator".
std::string name_of(site who);

/// Every violation, a line each; empty for ledgers that balance.
std::string describe(const ledger_report& ledgers);

/// Empty when the newest checkpoint of each site that has finished holds, in every group, the anchor of its round as all others know it,
/// and at least one stands at the last round of the ledgers. (Who comes back when the run is over finishes with an earlier round.) Else
/// what differs, a line each.
std::string anchor_differences(actors::cluster& run, const ledger_report& ledgers);

}  // namespace isthmus::testing
