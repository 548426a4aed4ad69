#pragma once

#include "framework/metrics/run_store.hpp"
#include "tests/launcher/program.hpp"

#include <nlohmann/json_fwd.hpp>

#include <functional>
#include <map>
#include <set>
#include <string>
#include <sys/types.h>
#include <vector>

namespace isthmus::tests {

/// A run of real processes: the launcher is our child, coordinator and sites are its. Whatever still lives at the end is killed.
class live_run {
public:
  /// Launches the recipe into the folder `name` below `root`, whose data cache runs share.
  live_run(const std::string& root, const std::string& name, const std::vector<std::string>& overrides,
           const std::string& recipe = "tests/e2e/tiny.toml");
  ~live_run();
  live_run(const live_run&) = delete;
  live_run& operator=(const live_run&) = delete;

  /// `isthmus resume`, once the launcher has ended.
  void resume();
  /// The launcher's exit code (128 + signal); kills all and gives -1 when it has not ended in time.
  int wait(double seconds = 240);
  /// A process by name: "launcher", "coordinator", "coordinator-2", or a site's; 0 while there is none.
  pid_t pid_of(const std::string& name) const;
  void signal(const std::string& name, int number) const;
  /// SIGKILL to everything, the launcher held still meanwhile so that it starts nobody; returns when all are gone.
  void kill_all();
  /// Polls until true; false when time is up or the launcher has ended.
  bool until(const std::function<bool()>& condition, double seconds = 120) const;
  bool over() const { return launcher_ <= 0; }

  round_number committed() const;  // by every group seen so far, as `status` tells it; 0 while there is no store
  std::vector<round_row> rounds() const;
  std::vector<sample_row> samples() const;
  std::vector<event_row> events() const;
  bool has_event(const std::string& kind, const std::string& words) const;
  std::size_t count_events(const std::string& kind, const std::string& words) const;
  /// Waits until every group has so many rounds; false when the run is over before.
  bool under_way(round_number rounds = 4) const;
  bool has_checkpoint(site_id site) const;
  outcome isthmus(const std::string& verb, const std::vector<std::string>& more = {}) const;
  /// What `isthmus ledger --json` says, after checking that it exits 0.
  nlohmann::json ledger() const;
  /// Lines of a site's ledger, oldest first.
  std::vector<nlohmann::json> lines(site_id site) const;
  const std::string& path() const { return path_; }
  /// The end of what the launcher and the processes said, for a failing test's message.
  std::string told() const;

private:
  void start(const std::vector<std::string>& arguments);
  surroundings where() const;

  std::string root_, path_;
  mutable pid_t launcher_ = -1;
  mutable int code_ = -1;
  bool ended() const;  // looks without waiting
};

/// Writes tiny.toml without its last two sites, and `more` behind it; gives the file's name.
std::string one_site_recipe(const std::string& file, const std::string& more = {});
std::string text_of(const std::filesystem::path& file);
/// The file with other bytes, in a new inode: the cache that it may be linked from stays whole.
void replace(const std::filesystem::path& file, const std::string& bytes);
/// Nothing of the process runs any more.
bool gone(pid_t pid);

/// Seconds since 1970, as in the store.
double wall_now();

}  // namespace isthmus::tests
