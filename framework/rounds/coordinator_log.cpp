#include "framework/rounds/coordinator_log.hpp"

#include "framework/rounds/json_lines.hpp"

#include <nlohmann/json.hpp>

namespace isthmus {

using nlohmann::json;

namespace {

constexpr std::size_t log_bytes_max = std::size_t{256} << 20;

std::string_view as_text(const std::vector<std::byte>& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

/// What a log holds, and how many of its bytes: behind them there is at most a torn line, which was never answered.
struct whole_lines {
  std::vector<coordinator_entry> entries;
  std::size_t bytes = 0;
};

expected<whole_lines> parse(std::string_view text, const std::string& path) {
  whole_lines out;
  for (const auto& line : json_lines::split(text)) {
    if (!line.whole) break;  // only the last can be so
    auto entry = parse_coordinator_line(std::string(line.text), path + ":" + std::to_string(line.number));
    if (!entry) return entry.failure();
    out.entries.push_back(std::move(*entry));
    out.bytes += line.text.size() + 1;
  }
  return out;
}

}  // namespace

std::string to_line(const coordinator_entry& entry) {
  json ended = json::array();
  for (const epoch_member& m : entry.ended) ended.push_back({{"site", m.site}, {"incarnation", m.incarnation}});
  return json_lines::seal(json{
      {"t", entry.end ? "end" : "epoch"},
      {"view", json_lines::to_json(entry.view)},
      {"sealed", entry.sealed},
      {"ended", ended},
      {"restart",
       entry.restart}}.dump());
}

expected<coordinator_entry> parse_coordinator_line(const std::string& line, const std::string& where) {
  auto object = json_lines::open(line, where);
  if (!object) return object.failure();
  try {
    coordinator_entry entry;
    entry.end = object->at("t") == "end";
    entry.view = json_lines::view_from(object->at("view"));
    entry.sealed = object->at("sealed").get<std::vector<site_id>>();
    for (const json& m : object->at("ended"))
      entry.ended.push_back({m.at("site").get<site_id>(), m.at("incarnation").get<incarnation_number>(), false, 0});
    entry.restart = object->at("restart").get<bool>();
    return entry;
  } catch (const std::exception& e) { return fail(errc::malformed, where + ": not an entry of the coordinator's log: " + e.what()); }
}

expected<std::vector<coordinator_entry>> coordinator_log::read(const storage& disk, const std::string& path) {
  if (!disk.exists(path)) return std::vector<coordinator_entry>{};
  auto bytes = disk.read(path, log_bytes_max);
  if (!bytes) return bytes.failure();
  auto lines = parse(as_text(*bytes), path);
  if (!lines) return lines.failure();
  return std::move(lines->entries);
}

expected<coordinator_log> coordinator_log::open(storage& disk, std::string path) {
  coordinator_log log(disk, std::move(path));
  if (!disk.exists(log.path_)) return log;
  auto bytes = disk.read(log.path_, log_bytes_max);
  if (!bytes) return bytes.failure();
  auto lines = parse(as_text(*bytes), log.path_);
  if (!lines) return lines.failure();
  log.entries_ = std::move(lines->entries);
  log.bytes_ = lines->bytes;
  if (log.bytes_ == bytes->size()) return log;
  const std::string whole = log.path_ + ".whole";
  if (auto ok = disk.write_synced(whole, std::span(*bytes).first(log.bytes_)); !ok) return ok.failure();
  if (auto ok = disk.rename(whole, log.path_); !ok) return ok.failure();
  if (auto ok = disk.sync_folder(folder_of(log.path_)); !ok) return ok.failure();
  return log;
}

expected<void> coordinator_log::append(const coordinator_entry& entry) {
  const epoch_number last = entries_.empty() ? 0 : entries_.back().view.number;
  if (entry.view.number != last + (entry.end ? 0 : 1))
    return fail(errc::stale_epoch,
                path_ + ": holds epoch " + std::to_string(last) + ", cannot append " + std::to_string(entry.view.number));
  if (bytes_ > 0 || disk_->exists(path_)) {
    auto now = disk_->read(path_, log_bytes_max);
    if (!now) return now.failure();
    if (now->size() != bytes_) return fail(errc::stale_epoch, path_ + ": another coordinator has written to it");
  }
  const std::string line = to_line(entry);
  auto file = disk_->open_append(path_);
  if (!file) return file.failure();
  if (auto ok = (*file)->append(std::as_bytes(std::span(line.data(), line.size()))); !ok) return ok;
  if (auto ok = (*file)->sync(); !ok) return ok;
  if (entries_.empty())
    if (auto ok = disk_->sync_folder(folder_of(path_)); !ok) return ok;
  bytes_ += line.size();
  entries_.push_back(entry);
  return {};
}

}  // namespace isthmus
