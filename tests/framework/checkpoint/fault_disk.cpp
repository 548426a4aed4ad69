#include "tests/framework/checkpoint/fault_disk.hpp"

#include "framework/core/rng.hpp"

#include <functional>
#include <map>
#include <optional>
#include <vector>

namespace isthmus::testing {

namespace {

struct node;
using node_ptr = std::shared_ptr<node>;
using names = std::map<std::string, node_ptr>;

/// A file or a folder: what programs see, and what the platter holds.
struct node {
  bool folder = false;
  std::vector<std::byte> now, durable;
  names entries;
  std::vector<names> history;  // of a folder: entries at its last sync, then after each change
};

node_ptr make_folder() {
  auto made = std::make_shared<node>();
  made->folder = true;
  made->history.push_back({});
  return made;
}

std::vector<std::string> split(const std::string& path) {
  std::vector<std::string> parts;
  std::size_t at = 0;
  while (at <= path.size()) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    if (const std::string part = path.substr(at, end - at); !part.empty() && part != ".") parts.push_back(part);
    at = end + 1;
  }
  return parts;
}

}  // namespace

struct fault_disk::state {
  node_ptr root = make_folder();
  std::uint64_t count = 0, armed_at = std::numeric_limits<std::uint64_t>::max();
  fault_kind kind = fault_kind::fails;
  bool fired_on_sync = false;

  node_ptr find(const std::vector<std::string>& parts, std::size_t drop = 0) const {
    node_ptr at = root;
    for (std::size_t i = 0; i + drop < parts.size(); ++i) {
      const auto next = at->folder ? at->entries.find(parts[i]) : at->entries.end();
      if (next == at->entries.end()) return nullptr;
      at = next->second;
    }
    return at;
  }
  static void changed(node& folder) { folder.history.push_back(folder.entries); }

  /// Runs one operation: whole(), or at the armed one what its fault says. half() does part of the work.
  expected<void> operate(
      bool sync, const std::function<void()>& whole, const std::function<void()>& half = [] {}) {
    if (count++ != armed_at) {
      whole();
      return {};
    }
    fired_on_sync = sync;
    switch (kind) {
      case fault_kind::fails: return fail(errc::io_failed, "the disk reports an error");
      case fault_kind::tears: half(); return fail(errc::disk_full, "no space left on the disk");
      case fault_kind::cuts: half(); throw power_loss();
      case fault_kind::skips_sync:
        if (!sync) whole();
        return {};
    }
    return {};
  }
};

class fault_disk::appender final : public append_file {
public:
  appender(std::shared_ptr<state> s, node_ptr file) : state_(std::move(s)), file_(std::move(file)) {}
  expected<void> append(std::span<const std::byte> bytes) override {
    const auto put = [&](std::size_t n) {
      file_->now.insert(file_->now.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    };
    return state_->operate(
        false, [&] { put(bytes.size()); }, [&] { put(bytes.size() / 2); });
  }
  expected<void> sync() override {
    return state_->operate(
        true, [&] { file_->durable = file_->now; },
        [&] { file_->durable.assign(file_->now.begin(), file_->now.begin() + static_cast<std::ptrdiff_t>(file_->now.size() / 2)); });
  }

private:
  std::shared_ptr<state> state_;
  node_ptr file_;
};

class fault_disk::view final : public storage {
public:
  explicit view(std::shared_ptr<state> s) : state_(std::move(s)) {}

  expected<std::unique_ptr<append_file>> open_append(const std::string& path) override {
    auto file = create(path, false);
    if (!file) return file.failure();
    return std::unique_ptr<append_file>(std::make_unique<appender>(state_, *file));
  }
  expected<void> write_synced(const std::string& path, std::span<const std::byte> bytes) override {
    auto file = create(path, true);
    if (!file) return file.failure();
    appender out(state_, *file);
    if (auto ok = out.append(bytes); !ok) return ok;
    return out.sync();
  }
  expected<std::vector<std::byte>> read(const std::string& path, std::size_t bytes_max) const override {
    const auto file = state_->find(split(path));
    if (!file) return fail(errc::not_found, "cannot open " + path + ": no such file");
    if (file->folder) return fail(errc::malformed, path + ": not a regular file");
    if (file->now.size() > bytes_max) return fail(errc::too_large, path + ": larger than allowed");
    return file->now;
  }
  expected<void> make_folders(const std::string& path) override {
    node_ptr at = state_->root;
    for (const auto& part : split(path)) {
      if (const auto found = at->entries.find(part); found != at->entries.end()) {
        at = found->second;
        continue;
      }
      node_ptr made = make_folder();
      auto ok = state_->operate(false, [&] {
        at->entries[part] = made;
        state::changed(*at);
      });
      if (!ok) return ok;
      at = made;
    }
    return {};
  }
  expected<void> rename(const std::string& from, const std::string& to) override {
    const auto a = split(from), b = split(to);
    const node_ptr parent = state_->find(a, 1), target = state_->find(b, 1);
    if (!parent || !parent->entries.contains(a.back())) return fail(errc::not_found, "cannot rename " + from + ": no such file");
    ensure(parent == target, "fault_disk: renames within one folder only");
    if (const auto there = parent->entries.find(b.back()); there != parent->entries.end() && !there->second->entries.empty())
      return fail(errc::io_failed, "cannot rename to " + to + ": folder not empty");
    return state_->operate(false, [&] {
      parent->entries[b.back()] = parent->entries[a.back()];
      parent->entries.erase(a.back());
      state::changed(*parent);
    });
  }
  expected<void> sync_folder(const std::string& path) override {
    const node_ptr folder = state_->find(split(path));
    if (!folder) return fail(errc::not_found, "cannot open folder " + path);
    return state_->operate(true, [&] { folder->history.assign(1, folder->entries); });
  }
  expected<void> remove(const std::string& path) override {
    const auto parts = split(path);
    const node_ptr parent = state_->find(parts, 1);
    if (!parent || !parent->entries.contains(parts.back())) return {};
    const node_ptr gone = parent->entries[parts.back()];
    while (gone->folder && !gone->entries.empty())  // names go one by one, as the real thing does it
      if (auto ok = remove(path + "/" + gone->entries.begin()->first); !ok) return ok;
    return state_->operate(false, [&] {
      parent->entries.erase(parts.back());
      state::changed(*parent);
    });
  }
  bool exists(const std::string& path) const override { return state_->find(split(path)) != nullptr; }
  std::vector<std::string> list(const std::string& path) const override {
    std::vector<std::string> out;
    if (const auto folder = state_->find(split(path)))
      for (const auto& [name, entry] : folder->entries) out.push_back(name);
    return out;
  }

private:
  expected<node_ptr> create(const std::string& path, bool truncate) {
    const auto parts = split(path);
    const node_ptr parent = state_->find(parts, 1);
    if (!parent || !parent->folder) return fail(errc::not_found, "cannot open " + path + ": no such folder");
    auto ok = state_->operate(false, [&] {
      auto& entry = parent->entries[parts.back()];
      if (!entry) {
        entry = std::make_shared<node>();
        state::changed(*parent);
      } else if (truncate)
        entry->now.clear();
    });
    if (!ok) return ok.failure();
    return parent->entries[parts.back()];
  }

  std::shared_ptr<state> state_;
};

fault_disk::fault_disk() : state_(std::make_shared<state>()) {}
fault_disk::~fault_disk() = default;
std::unique_ptr<storage> fault_disk::open() { return std::make_unique<view>(state_); }

void fault_disk::arm(std::uint64_t at, fault_kind kind) {
  disarm();
  state_->armed_at = at;
  state_->kind = kind;
}
void fault_disk::disarm() {
  state_->count = 0;
  state_->armed_at = std::numeric_limits<std::uint64_t>::max();
  state_->fired_on_sync = false;
}
std::uint64_t fault_disk::operations() const { return state_->count; }
bool fault_disk::fired_on_sync() const { return state_->fired_on_sync; }

namespace {

/// The file as it is found: its synced bytes, or, with luck, some of the later ones, or a hole of zeros.
node_ptr file_after_crash(const node& before, rng* luck) {
  auto after = std::make_shared<node>();
  after->now = before.durable;
  if (luck != nullptr && before.now != before.durable) {
    after->now = before.now;
    const std::uint64_t kept = luck->below(before.now.size() + 1);
    switch (luck->below(3)) {
      case 0: after->now.resize(kept); break;
      case 1: std::fill(after->now.begin() + static_cast<std::ptrdiff_t>(kept), after->now.end(), std::byte{0}); break;
      default: break;
    }
  }
  after->durable = after->now;
  return after;
}

node_ptr folder_after_crash(const node& before, rng* luck) {
  auto after = make_folder();
  const auto& found = before.history[luck == nullptr ? 0 : luck->below(before.history.size())];
  for (const auto& [name, entry] : found)
    after->entries[name] = entry->folder ? folder_after_crash(*entry, luck) : file_after_crash(*entry, luck);
  after->history.assign(1, after->entries);
  return after;
}

}  // namespace

void fault_disk::crash(std::uint64_t luck) {
  rng draws(luck, 0, 0, draw::fault);
  state_->root = folder_after_crash(*state_->root, luck == 0 ? nullptr : &draws);
  disarm();
}

}  // namespace isthmus::testing
