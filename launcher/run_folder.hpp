#pragma once

#include "framework/core/expected.hpp"
#include "framework/core/storage.hpp"
#include "framework/recipe/recipe.hpp"
#include "framework/rounds/messages.hpp"

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace isthmus::launcher {

/// One site of a run, as its roster.json names it.
struct roster_site {
  site_id id = 0;
  std::string name, address;
  std::string shard, domain;   // path of its token shard below the run folder; what its text is
  double unigram_entropy = 0;  // of its held-out text, nats per token
  std::string content;         // hash of what its shard was made from; empty in rosters that do not say
  std::string key;             // public, as text; empty in rosters of runs whose links were not sealed
  bool key_elsewhere = false;  // a newcomer entered it with a token: the secret half is not in this folder
};

/// Who takes part in a run and where; written anew at each launch, since ports are picked free.
struct roster {
  std::string run_id, recipe_hash;
  std::vector<std::string> coordinators;  // addresses of its processes: one of them leads
  std::string coordinator_key;            // as a site's; of all of them
  std::vector<roster_site> sites;
  std::map<site_id, std::string> addresses() const;  // the coordinators' too, parted by commas
};

/// What the launcher itself must remember over a crash.
struct launch_memory {
  std::vector<std::size_t> faults_fired;  // by place in the recipe
  double trained_seconds = 0;
  std::int64_t restarts = 0;
};

/// A run on disk: docs/manual.md lists what lies in its folder.
struct run_folder {
  std::string path;
  recipe plan;
  roster people;
};

inline constexpr const char *resolved_recipe_name = "recipe.resolved.toml", *roster_name = "roster.json", *memory_name = "launcher.json";

/// Where runs lie: ISTHMUS_RUNS, else "runs".
std::string runs_root();
/// That runs_root() is a folder, or not there yet.
expected<void> check_runs_root();
/// A new folder <root>/<name>-<time> with the resolved recipe; `chosen` instead when not empty, which must be empty or new.
/// Errors: environment.
expected<run_folder> make_run_folder(const recipe& plan, const std::string& chosen);
/// Reads recipe and roster, and checks that they belong together. A run that never got its roster has an empty one.
expected<run_folder> open_run_folder(const std::string& path);
/// The folder that is meant: a path, a name below runs_root(), or the newest run that was begun when typed is empty.
expected<std::string> find_run(const std::string& typed);

/// What was said of a file in the run folder, with the folder's path in it once: the disk names it already, readers of bytes do not.
std::string told_of_run(const std::string& path, const std::string& message);

expected<void> write_roster(const std::string& path, const roster& people);
expected<launch_memory> read_memory(const std::string& path);
expected<void> write_memory(const std::string& path, const launch_memory& memory);

/// Whether links, which are sealed, may use a site's address (framework/transport/address.hpp). Errors: environment.
expected<void> check_may_listen(const std::string& address);
/// Whether all sites' addresses may be listened on, and those that the recipe fixes can be; waits so long for those of a run that is
/// still ending. Errors: environment, naming site and address.
expected<void> check_fixed_addresses(const recipe& plan, std::chrono::milliseconds patience);
/// Of the process in that place: "coordinator", "coordinator-2".
std::string coordinator_name(std::size_t place);
/// Addresses of all sites, and of the coordinators, parted by commas: the recipe's, port 0 replaced by free loopback ports.
expected<std::map<site_id, std::string>> pick_addresses(const recipe& plan);
/// That the etcd of the recipe, if it names one, may be spoken to, and answers. Errors: environment.
expected<void> check_etcd(const recipe& plan);

/// Held for the life of a launcher: two launchers never drive one run. Errors: environment, naming the holder.
class run_lock {
public:
  static expected<run_lock> take(const std::string& run_path);
  /// Whether a launcher holds it; looks only, so that nobody who takes it meanwhile is disturbed.
  static bool is_held(const std::string& run_path);
  run_lock(run_lock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  run_lock& operator=(run_lock&&) = delete;
  ~run_lock();

private:
  explicit run_lock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace isthmus::launcher
