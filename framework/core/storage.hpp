#pragma once

#include "framework/core/expected.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace isthmus {

/// A file open for appending. Bytes are durable only after a successful sync; after a failed one the file is abandoned.
class append_file {
public:
  virtual ~append_file() = default;
  virtual expected<void> append(std::span<const std::byte> bytes) = 0;
  virtual expected<void> sync() = 0;
};

/// The one door to the disk. Made in main; a simulation gives one that tears, loses and fails on a seed.
/// Paths are relative to its root, '/'-separated; "..", absolute paths and symbolic links are refused.
class storage {
public:
  virtual ~storage() = default;
  /// Opens for appending, made when missing, parents too.
  virtual expected<std::unique_ptr<append_file>> open_append(const std::string& path) = 0;
  /// Creates or overwrites, and syncs the file (not its folder).
  virtual expected<void> write_synced(const std::string& path, std::span<const std::byte> bytes) = 0;
  virtual expected<std::vector<std::byte>> read(const std::string& path, std::size_t bytes_max) const = 0;
  virtual expected<void> make_folders(const std::string& path) = 0;
  /// Atomic on the same file system. Durable after sync_folder of both parents.
  virtual expected<void> rename(const std::string& from, const std::string& to) = 0;
  virtual expected<void> sync_folder(const std::string& path) = 0;
  /// Removes a file, or a folder with all that is in it; a missing one is no error.
  virtual expected<void> remove(const std::string& path) = 0;
  virtual bool exists(const std::string& path) const = 0;
  /// Names in a folder, sorted; empty when it is missing.
  virtual std::vector<std::string> list(const std::string& path) const = 0;
};

/// The real disk below root, which is made when missing.
expected<std::unique_ptr<storage>> open_disk(const std::string& root);

}  // namespace isthmus
