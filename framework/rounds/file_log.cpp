#include "framework/rounds/file_log.hpp"

#include "framework/rounds/json_lines.hpp"

namespace isthmus {

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

expected<std::vector<coordinator_entry>> file_log::read(const storage& disk, const std::string& path) {
  if (!disk.exists(path)) return std::vector<coordinator_entry>{};
  auto bytes = disk.read(path, log_bytes_max);
  if (!bytes) return bytes.failure();
  auto lines = parse(as_text(*bytes), path);
  if (!lines) return lines.failure();
  return std::move(lines->entries);
}

expected<file_log> file_log::open(storage& disk, std::string path) {
  file_log log(disk, std::move(path));
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

expected<void> file_log::write(const coordinator_entry& entry) {
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
  if (entries().empty())
    if (auto ok = disk_->sync_folder(folder_of(path_)); !ok) return ok;
  bytes_ += line.size();
  return {};
}

}  // namespace isthmus
