#include "launcher/removed_when_stopped.hpp"

#include <system_error>
#include <utility>

namespace isthmus::launcher {

namespace {

constexpr int wake = SIGUSR2;

}  // namespace

removed_when_stopped::removed_when_stopped(std::filesystem::path folder, storage& disk) : folder_(std::move(folder)), writer_(disk, gate_) {
  sigaddset(&signals_, wake);
  for (const int s : {SIGINT, SIGTERM, SIGHUP})
    if (struct sigaction now{}; ::sigaction(s, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) sigaddset(&signals_, s);
  ::pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  watcher_ = std::thread([this] { watch(); });
}

removed_when_stopped::~removed_when_stopped() {
  ::pthread_kill(watcher_.native_handle(), wake);
  watcher_.join();
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void removed_when_stopped::watch() {
  int heard = 0;
  while (::sigwait(&signals_, &heard) != 0) {}
  if (heard == wake) return;
  const std::lock_guard lock(gate_);  // kept until the process ends, which the signal does
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
  std::signal(heard, SIG_DFL);
  sigset_t only{};
  sigaddset(&only, heard);
  ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  std::raise(heard);
}

expected<std::unique_ptr<append_file>> removed_when_stopped::gated_storage::open_append(const std::string& path) {
  const std::lock_guard lock(gate_);
  return disk_.open_append(path);
}
expected<void> removed_when_stopped::gated_storage::write_synced(const std::string& path, std::span<const std::byte> bytes) {
  const std::lock_guard lock(gate_);
  return disk_.write_synced(path, bytes);
}
expected<std::vector<std::byte>> removed_when_stopped::gated_storage::read(const std::string& path, std::size_t bytes_max) const {
  return disk_.read(path, bytes_max);
}
expected<void> removed_when_stopped::gated_storage::make_folders(const std::string& path) {
  const std::lock_guard lock(gate_);
  return disk_.make_folders(path);
}
expected<void> removed_when_stopped::gated_storage::rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(gate_);
  return disk_.rename(from, to);
}
expected<void> removed_when_stopped::gated_storage::sync_folder(const std::string& path) { return disk_.sync_folder(path); }
expected<void> removed_when_stopped::gated_storage::remove(const std::string& path) {
  const std::lock_guard lock(gate_);
  return disk_.remove(path);
}
bool removed_when_stopped::gated_storage::exists(const std::string& path) const { return disk_.exists(path); }
std::vector<std::string> removed_when_stopped::gated_storage::list(const std::string& path) const { return disk_.list(path); }

}  // namespace isthmus::launcher
