#pragma once

#include "framework/core/storage.hpp"

#include <csignal>
#include <filesystem>
#include <mutex>
#include <thread>

namespace isthmus::launcher {

/// While it lives, SIGINT, SIGTERM and SIGHUP remove a folder before they end this process, as they would have without it. Nobody makes
/// anything in the folder meanwhile: who writes there does so through writer(), where every call that makes, moves or removes a file waits
/// from then on.
class removed_when_stopped {
public:
  /// folder: not there yet. disk: outlives this.
  removed_when_stopped(std::filesystem::path folder, storage& disk);
  removed_when_stopped(const removed_when_stopped&) = delete;
  removed_when_stopped& operator=(const removed_when_stopped&) = delete;
  ~removed_when_stopped();
  storage& writer() { return writer_; }

private:
  class gated_storage final : public storage {
  public:
    gated_storage(storage& disk, std::mutex& gate) : disk_(disk), gate_(gate) {}
    expected<std::unique_ptr<append_file>> open_append(const std::string& path) override;
    expected<void> write_synced(const std::string& path, std::span<const std::byte> bytes) override;
    expected<std::vector<std::byte>> read(const std::string& path, std::size_t bytes_max) const override;
    expected<void> make_folders(const std::string& path) override;
    expected<void> rename(const std::string& from, const std::string& to) override;
    expected<void> sync_folder(const std::string& path) override;
    expected<void> remove(const std::string& path) override;
    bool exists(const std::string& path) const override;
    std::vector<std::string> list(const std::string& path) const override;

  private:
    storage& disk_;
    std::mutex& gate_;
  };

  void watch();

  std::filesystem::path folder_;
  std::mutex gate_;  // whoever is stopped keeps it for good
  gated_storage writer_;
  sigset_t signals_{}, before_{};
  std::thread watcher_;
};

}  // namespace isthmus::launcher
