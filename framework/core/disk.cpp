#include "framework/core/descriptor.hpp"
#include "framework/core/storage.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace isthmus {

namespace {

namespace fs = std::filesystem;

/// On the disk, in the user's share of it, or under the process's limit.
bool lacks_space(int e) { return e == ENOSPC || e == EDQUOT || e == EFBIG; }

unexpected from_errno(const std::string& what, const std::string& path) {
  const int e = errno;
  const errc code = e == ENOENT ? errc::not_found : e == ELOOP ? errc::malformed : lacks_space(e) ? errc::disk_full : errc::io_failed;
  return fail(code, what + " " + path + ": " + std::strerror(e));
}

expected<void> write_all(int fd, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && lacks_space(errno))
      return fail(errc::disk_full, "cannot write " + path + ": no space left, " + std::to_string(bytes.size()) + " bytes wanted");
    if (n < 0) return from_errno("cannot write", path);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

class disk_append_file final : public append_file {
public:
  disk_append_file(descriptor fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  expected<void> append(std::span<const std::byte> bytes) override { return write_all(fd_.get(), bytes, path_); }
  expected<void> sync() override {
    if (::fsync(fd_.get()) != 0) return from_errno("cannot fsync", path_);
    return {};
  }

private:
  descriptor fd_;
  std::string path_;
};

class disk final : public storage {
public:
  explicit disk(fs::path root) : root_(std::move(root)) {}

  expected<std::unique_ptr<append_file>> open_append(const std::string& path) override {
    auto full = confined(path);
    if (!full) return full.failure();
    std::error_code ignored;
    fs::create_directories(full->parent_path(), ignored);
    descriptor fd(::open(full->c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (fd.get() < 0) return from_errno("cannot open", full->string());
    return std::unique_ptr<append_file>(std::make_unique<disk_append_file>(std::move(fd), full->string()));
  }

  expected<void> write_synced(const std::string& path, std::span<const std::byte> bytes) override {
    auto full = confined(path);
    if (!full) return full.failure();
    const descriptor fd(::open(full->c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (fd.get() < 0) return from_errno("cannot create", full->string());
    if (auto ok = write_all(fd.get(), bytes, full->string()); !ok) return ok;
    if (::fsync(fd.get()) != 0) return from_errno("cannot fsync", full->string());
    return {};
  }

  expected<std::vector<std::byte>> read(const std::string& path, std::size_t bytes_max) const override {
    auto full = confined(path);
    if (!full) return full.failure();
    const descriptor fd(::open(full->c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (fd.get() < 0) return from_errno("cannot open", full->string());
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return from_errno("cannot stat", full->string());
    if (!S_ISREG(info.st_mode)) return fail(errc::malformed, full->string() + ": not a regular file");
    if (static_cast<std::uintmax_t>(info.st_size) > bytes_max)
      return fail(errc::too_large,
                  full->string() + ": " + std::to_string(info.st_size) + " bytes, at most " + std::to_string(bytes_max) + " allowed");
    std::vector<std::byte> bytes(static_cast<std::size_t>(info.st_size));
    std::size_t have = 0;
    while (have < bytes.size()) {
      const ssize_t n = ::read(fd.get(), bytes.data() + have, bytes.size() - have);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return from_errno("cannot read", full->string());
      if (n == 0) break;
      have += static_cast<std::size_t>(n);
    }
    bytes.resize(have);
    return bytes;
  }

  expected<void> make_folders(const std::string& path) override {
    auto full = confined(path);
    if (!full) return full.failure();
    std::error_code failed;
    fs::create_directories(*full, failed);
    if (failed) return fail(errc::io_failed, "cannot make folder " + full->string() + ": " + failed.message());
    return {};
  }

  expected<void> rename(const std::string& from, const std::string& to) override {
    auto a = confined(from);
    if (!a) return a.failure();
    auto b = confined(to);
    if (!b) return b.failure();
    if (::rename(a->c_str(), b->c_str()) != 0) return from_errno("cannot rename to " + b->string(), a->string());
    return {};
  }

  expected<void> sync_folder(const std::string& path) override {
    auto full = confined(path);
    if (!full) return full.failure();
    const descriptor fd(::open(full->c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.get() < 0) return from_errno("cannot open folder", full->string());
    if (::fsync(fd.get()) != 0) return from_errno("cannot fsync folder", full->string());
    return {};
  }

  expected<void> remove(const std::string& path) override {
    auto full = confined(path);
    if (!full) return full.failure();
    std::error_code failed;
    fs::remove_all(*full, failed);
    if (failed) return fail(errc::io_failed, "cannot remove " + full->string() + ": " + failed.message());
    return {};
  }

  bool exists(const std::string& path) const override {
    auto full = confined(path);
    std::error_code ignored;
    return full && fs::exists(*full, ignored);
  }

  std::vector<std::string> list(const std::string& path) const override {
    std::vector<std::string> names;
    auto full = confined(path);
    if (!full) return names;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(*full, ignored)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

private:
  expected<fs::path> confined(const std::string& path) const {
    const fs::path relative(path);
    if (relative.is_absolute()) return fail(errc::refused, "absolute path '" + path + "' below " + root_.string());
    for (const auto& part : relative)
      if (part == "..") return fail(errc::refused, "path '" + path + "' leaves " + root_.string());
    return root_ / relative;
  }
  fs::path root_;
};

}  // namespace

expected<std::unique_ptr<storage>> open_disk(const std::string& root) {
  std::error_code failed;
  fs::create_directories(root, failed);
  if (failed) return fail(errc::io_failed, "cannot make folder " + root + ": " + failed.message());
  return std::unique_ptr<storage>(std::make_unique<disk>(root));
}

}  // namespace isthmus
