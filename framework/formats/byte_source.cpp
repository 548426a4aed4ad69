#include "framework/formats/byte_source.hpp"

#include "framework/core/descriptor.hpp"
#include "framework/formats/guarded_copy.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace isthmus {

namespace {

constexpr std::size_t name_bytes_max = 255;

unexpected past_the_end(const byte_source& source, std::uint64_t offset, std::uint64_t count) {
  return fail(errc::truncated,
              fmt::format("{}: byte {}: {} bytes are wanted, the file has {}", source.where(), offset, count, source.size()));
}

bool in_range(const byte_source& source, std::uint64_t offset, std::uint64_t count) {
  return offset <= source.size() && count <= source.size() - offset;
}

bool same_time(const timespec& a, const timespec& b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

/// A file as memory, read only. Its pages are those of the file cache: what is read of them is dropped from our memory at once.
class mapping {
public:
  /// Borrows the descriptor. Maps nothing when the file is empty, or when its file system or a limit of address space forbids it.
  mapping(int file, std::uint64_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) return;
    data_ = static_cast<std::byte*>(data);
    ::madvise(data, bytes, MADV_SEQUENTIAL);
  }
  mapping(const mapping&) = delete;
  mapping& operator=(const mapping&) = delete;
  ~mapping() {
    if (data_ != nullptr) ::munmap(data_, bytes_);
  }

  /// False: what out holds is not defined, and a read of the file says why. The range lies in the file as it was when it was mapped.
  bool copy(std::uint64_t offset, std::span<std::byte> out) const {
    if (data_ == nullptr) return false;
    static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    while (!out.empty()) {
      const std::size_t bytes = std::min(resident_bytes_max, out.size());
      if (!guarded_copy(data_ + offset, out.first(bytes))) return false;
      const std::uint64_t first_page = offset / page * page;
      ::madvise(data_ + first_page, offset + bytes - first_page, MADV_DONTNEED);
      offset += bytes;
      out = out.subspan(bytes);
    }
    return true;
  }

private:
  static constexpr std::size_t resident_bytes_max = 2 << 20;
  std::byte* data_ = nullptr;
  std::uint64_t bytes_;
};

/// Fills out from offset on. 0, or an errno.
int read_file(int file, std::uint64_t offset, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t n = ::pread(file, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return ENODATA;
    offset += static_cast<std::uint64_t>(n);
    out = out.subspan(static_cast<std::size_t>(n));
  }
  return 0;
}

class file_source final : public byte_source {
public:
  file_source(descriptor fd, const struct stat& info, std::string where)
      : fd_(std::move(fd)), info_(info), where_(std::move(where)), view_(fd_.get(), size()) {}
  const std::string& where() const override { return where_; }
  std::uint64_t size() const override { return static_cast<std::uint64_t>(info_.st_size); }

  expected<void> read(std::uint64_t offset, std::span<std::byte> out) const override {
    if (!in_range(*this, offset, out.size())) return past_the_end(*this, offset, out.size());
    const int error = view_.copy(offset, out) ? 0 : read_file(fd_.get(), offset, out);
    if (auto changed = check_unchanged(); !changed) return changed;  // and that is why, if there was an error
    if (error != 0) return fail(errc::io_failed, fmt::format("{}: byte {}: cannot read: {}", where_, offset, std::strerror(error)));
    return {};
  }

private:
  /// After the bytes were taken: what changed before or meanwhile shows now.
  expected<void> check_unchanged() const {
    struct stat now {};
    if (::fstat(fd_.get(), &now) != 0) return fail(errc::io_failed, fmt::format("{}: cannot stat: {}", where_, std::strerror(errno)));
    if (now.st_size < info_.st_size)
      return fail(errc::truncated, fmt::format("{}: shrank from {} to {} bytes while it was read", where_, info_.st_size, now.st_size));
    if (now.st_size != info_.st_size || !same_time(now.st_mtim, info_.st_mtim))
      return fail(errc::io_failed, fmt::format("{}: was written to while it was read: read it again once it is complete", where_));
    return {};
  }

  descriptor fd_;
  struct stat info_;
  std::string where_;
  mapping view_;
};

class bytes_source final : public byte_source {
public:
  bytes_source(std::vector<std::byte> bytes, std::string where) : bytes_(std::move(bytes)), where_(std::move(where)) {}
  const std::string& where() const override { return where_; }
  std::uint64_t size() const override { return bytes_.size(); }
  expected<void> read(std::uint64_t offset, std::span<std::byte> out) const override {
    if (!in_range(*this, offset, out.size())) return past_the_end(*this, offset, out.size());
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }

private:
  std::vector<std::byte> bytes_;
  std::string where_;
};

}  // namespace

expected<std::string> byte_source::read_text(std::uint64_t bytes_max) const {
  if (size() > bytes_max) return fail(errc::too_large, fmt::format("{}: {} bytes, at most {} allowed", where(), size(), bytes_max));
  std::string text(size(), '\0');
  if (auto ok = read(0, std::as_writable_bytes(std::span(text))); !ok) return ok.failure();
  return text;
}

expected<std::vector<std::byte>> byte_source::read_bytes(std::uint64_t offset, std::uint64_t count) const {
  if (!in_range(*this, offset, count)) return past_the_end(*this, offset, count);
  std::vector<std::byte> bytes(count);
  if (auto ok = read(offset, bytes); !ok) return ok.failure();
  return bytes;
}

expected<std::shared_ptr<const byte_source>> open_source(const std::string& path) {
  descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (fd.get() < 0) {
    if (errno == ELOOP)
      return fail(errc::refused, path + ": is a symbolic link, which is not followed: give the file itself (cp -L copies it)");
    return fail(errno == ENOENT ? errc::not_found : errc::io_failed, "cannot open " + path + ": " + std::strerror(errno));
  }
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return fail(errc::io_failed, "cannot stat " + path + ": " + std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return fail(errc::malformed, path + ": not a regular file");
  return std::shared_ptr<const byte_source>(std::make_shared<file_source>(std::move(fd), info, path));
}

expected<std::shared_ptr<const byte_source>> open_source(const std::string& folder, const std::string& name) {
  const bool plain = !name.empty() && name.size() <= name_bytes_max && name != "." && name != ".." &&
                     name.find_first_of(std::string("/\0", 2)) == std::string::npos;
  if (!plain)
    return fail(errc::refused,
                fmt::format("{}: '{}' is not the plain name of a file in this folder", folder, name.substr(0, name_bytes_max)));
  return open_source(folder + "/" + name);
}

std::shared_ptr<const byte_source> memory_source(std::vector<std::byte> bytes, std::string where) {
  return std::make_shared<bytes_source>(std::move(bytes), std::move(where));
}

}  // namespace isthmus
