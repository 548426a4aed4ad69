#include "framework/sim/disk.hpp"

#include <algorithm>
#include <set>

namespace isthmus::sim {

namespace {
bool below(const std::string& path, const std::string& folder) {
  return path.size() > folder.size() && path.compare(0, folder.size(), folder) == 0 && path[folder.size()] == '/';
}
bool covers(const std::string& at, const std::string& name) { return at.empty() || name == at || below(name, at); }
}  // namespace

struct file_bytes {
  std::vector<std::byte> bytes;
  std::size_t synced = 0;
};
using file_table = std::map<std::string, std::shared_ptr<file_bytes>>;

struct disk::state {
  file_table now, durable;  // names as seen, names as they would be found after a crash
  std::function<void(const std::string&, std::string_view)> hears;
  std::function<void(const std::string&)> hears_sync;
  std::multiset<std::string> full, broken;  // files and folders; "": everything

  /// Whether the file of that name can be written, and if not, why.
  expected<void> may_write(const std::string& name, const std::string& path) const {
    const auto hit = [&](const auto& at) { return covers(at, name); };
    if (std::any_of(full.begin(), full.end(), hit))
      return fail(errc::disk_full, "cannot write " + path + ": no space left on the simulated disk");
    return may_use(name, "write " + path);
  }
  expected<void> may_use(const std::string& name, const std::string& action) const {
    if (std::any_of(broken.begin(), broken.end(), [&](const auto& at) { return covers(at, name); }))
      return fail(errc::io_failed, "cannot " + action + ": the simulated disk does not answer");
    return {};
  }
};

class disk::appender final : public append_file {
public:
  appender(std::shared_ptr<state> s, std::shared_ptr<const bool> alive, std::shared_ptr<file_bytes> file, std::string name,
           std::string path)
      : state_(std::move(s)), alive_(std::move(alive)), file_(std::move(file)), name_(std::move(name)), path_(std::move(path)) {}
  expected<void> append(std::span<const std::byte> bytes) override {
    if (!*alive_) return {};
    if (auto ok = state_->may_write(name_, path_); !ok) return ok;
    file_->bytes.insert(file_->bytes.end(), bytes.begin(), bytes.end());
    if (state_->hears) state_->hears(name_, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    return {};
  }
  expected<void> sync() override {
    if (!*alive_) return {};
    if (auto ok = state_->may_use(name_, "sync " + path_); !ok) return ok;
    file_->synced = file_->bytes.size();
    if (state_->hears_sync) state_->hears_sync(name_);
    return {};
  }

private:
  std::shared_ptr<state> state_;
  std::shared_ptr<const bool> alive_;
  std::shared_ptr<file_bytes> file_;
  std::string name_, path_;  // from the root, and as the user sees it
};

class disk::view final : public storage {
public:
  view(std::shared_ptr<state> s, std::string folder) : state_(std::move(s)), folder_(std::move(folder)) {}

  expected<std::unique_ptr<append_file>> open_append(const std::string& path) override {
    if (!*alive_) return std::unique_ptr<append_file>(std::make_unique<appender>(state_, alive_, nullptr, full(path), path));
    if (auto ok = state_->may_write(full(path), path); !ok) return ok.failure();
    auto& file = state_->now[full(path)];
    if (!file) {
      file = std::make_shared<file_bytes>();
      state_->durable[full(path)] = file;  // a log's name is made durable at once; its bytes are not
    }
    return std::unique_ptr<append_file>(std::make_unique<appender>(state_, alive_, file, full(path), path));
  }
  expected<void> write_synced(const std::string& path, std::span<const std::byte> bytes) override {
    if (!*alive_) return {};
    if (auto ok = state_->may_write(full(path), path); !ok) return ok;
    auto file = std::make_shared<file_bytes>();
    file->bytes.assign(bytes.begin(), bytes.end());
    file->synced = bytes.size();
    state_->now[full(path)] = file;
    if (state_->hears_sync) state_->hears_sync(full(path));
    return {};
  }
  expected<std::vector<std::byte>> read(const std::string& path, std::size_t bytes_max) const override {
    const auto found = state_->now.find(full(path));
    if (found == state_->now.end()) return fail(errc::not_found, "cannot open " + path + ": no such file");
    if (found->second->bytes.size() > bytes_max) return fail(errc::too_large, path + ": larger than allowed");
    return found->second->bytes;
  }
  expected<void> make_folders(const std::string&) override { return {}; }
  expected<void> rename(const std::string& from, const std::string& to) override {
    if (!*alive_) return {};
    const std::string a = full(from), b = full(to);
    file_table moved;
    for (auto it = state_->now.begin(); it != state_->now.end();) {
      if (it->first == a || below(it->first, a)) {
        moved[b + it->first.substr(a.size())] = it->second;
        it = state_->now.erase(it);
      } else
        ++it;
    }
    if (moved.empty()) return fail(errc::not_found, "cannot rename " + from + ": no such file");
    state_->now.merge(moved);
    for (auto& [name, file] : moved) state_->now[name] = file;  // replaced ones
    return {};
  }
  expected<void> sync_folder(const std::string& path) override {
    if (!*alive_) return {};
    const std::string folder = path.empty() || path == "." ? folder_ : full(path);
    std::erase_if(state_->durable, [&](const auto& entry) { return below(entry.first, folder) && !state_->now.contains(entry.first); });
    for (const auto& [name, file] : state_->now)
      if (below(name, folder)) state_->durable[name] = file;
    return {};
  }
  expected<void> remove(const std::string& path) override {
    if (!*alive_) return {};
    const std::string name = full(path);
    std::erase_if(state_->now, [&](const auto& entry) { return entry.first == name || below(entry.first, name); });
    return {};
  }
  bool exists(const std::string& path) const override {
    const std::string name = full(path);
    for (const auto& [other, file] : state_->now)
      if (other == name || below(other, name)) return true;
    return false;
  }
  std::vector<std::string> list(const std::string& path) const override {
    const std::string folder = path.empty() || path == "." ? folder_ : full(path);
    std::set<std::string> names;
    for (const auto& [name, file] : state_->now) {
      if (!below(name, folder)) continue;
      const std::string rest = name.substr(folder.size() + 1);
      names.insert(rest.substr(0, rest.find('/')));
    }
    return {names.begin(), names.end()};
  }

  void abandon() { *alive_ = false; }

private:
  std::string full(const std::string& path) const { return folder_ + "/" + path; }
  std::shared_ptr<state> state_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::string folder_;
};

disk::disk() : state_(std::make_shared<state>()) {}
disk::~disk() = default;
std::unique_ptr<storage> disk::open(const std::string& folder) { return std::make_unique<view>(state_, folder); }
void disk::abandon(storage& opened) { dynamic_cast<view&>(opened).abandon(); }
void disk::fill(const std::string& name) { state_->full.insert(name); }
void disk::make_room(const std::string& name) {
  if (const auto found = state_->full.find(name); found != state_->full.end()) state_->full.erase(found);
}

void disk::on_append(std::function<void(const std::string&, std::string_view)> hears) { state_->hears = std::move(hears); }
void disk::on_sync(std::function<void(const std::string&)> hears) { state_->hears_sync = std::move(hears); }
void disk::break_down(const std::string& name) { state_->broken.insert(name); }
void disk::repair(const std::string& name) {
  if (const auto found = state_->broken.find(name); found != state_->broken.end()) state_->broken.erase(found);
}

void disk::erase(const std::string& name) {
  for (auto* table : {&state_->now, &state_->durable}) std::erase_if(*table, [&](const auto& entry) { return covers(name, entry.first); });
}

bool disk::rot(const std::string& name, rng& draws) {
  const auto found = state_->now.find(name);
  if (found == state_->now.end() || found->second->bytes.empty()) return false;
  auto& bytes = found->second->bytes;
  bytes[draws.below(bytes.size())] ^= static_cast<std::byte>(1U << draws.below(8));
  return true;
}

void disk::crash(const std::string& name, rng* torn) {
  std::erase_if(state_->now, [&](const auto& entry) { return covers(name, entry.first); });
  for (auto& [path, file] : state_->durable) {
    if (!covers(name, path)) continue;
    auto kept = std::make_shared<file_bytes>(*file);  // writers from before the crash keep the old one and harm nobody
    const std::size_t unsynced = kept->bytes.size() - kept->synced;
    kept->bytes.resize(kept->synced + (torn != nullptr ? torn->below(unsynced + 1) : 0));
    kept->synced = kept->bytes.size();
    file = kept;
    state_->now[path] = kept;
  }
}

}  // namespace isthmus::sim
