#pragma once

#include "framework/core/rng.hpp"
#include "framework/core/storage.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus::sim {

/// A disk in memory that outlives its users, as a real one outlives a process. crash() loses what was not synced: appended bytes
/// behind the last sync, and names (new, renamed) whose folder was not synced.
class disk {
public:
  disk();
  ~disk();
  /// A view below a folder; all views share the disk.
  std::unique_ptr<storage> open(const std::string& folder);
  /// Who has that view is dead: what it still does through it, or through files that it opened with it, is said to be done and is not.
  static void abandon(storage& view);
  /// Hears what is appended to any file, named as seen from the disk's root.
  void on_append(std::function<void(const std::string& name, std::string_view bytes)> hears);
  /// Hears the name of each file that is synced.
  void on_sync(std::function<void(const std::string& name)> hears);
  /// Of all files, or of that file and those below that folder. With draws, a random front part of what was not synced is left: a torn
  /// write.
  void crash(const std::string& name = {}, rng* torn = nullptr);
  /// From now on writes to that file, or to any below that folder, named as seen from the disk's root, fail with disk_full; "": all.
  void fill(const std::string& name = {});
  void make_room(const std::string& name = {});
  /// The same with io_failed, of syncs too; what a failed sync should have kept may be lost.
  void break_down(const std::string& name = {});
  void repair(const std::string& name = {});

  /// That file, or all below that folder, are gone.
  void erase(const std::string& name);
  /// A bit of that file flips, where it lies, without anybody having written it. False when there is no such file, or it is empty.
  bool rot(const std::string& name, rng& draws);

private:
  struct state;
  class view;
  class appender;
  std::shared_ptr<state> state_;
};

}  // namespace isthmus::sim
