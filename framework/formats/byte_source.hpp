#pragma once

#include "framework/core/expected.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace isthmus {

/// Bytes that are read at any place: a file of a stranger, or memory. Immutable in our hands: threads share one.
/// A file is mapped, and read by copies out of the mapping (guarded_copy.hpp) or, where it cannot be mapped, by pread. One that is cut
/// short or written to while we hold it gives an error at the next read, not SIGBUS and not other numbers than those that were checked.
/// One that is replaced is read on as it was.
class byte_source {
public:
  virtual ~byte_source() = default;
  /// Its name in messages.
  virtual const std::string& where() const = 0;
  /// As it was when the source was opened.
  virtual std::uint64_t size() const = 0;
  /// Fills out with the bytes from offset on. What out holds after an error is not defined.
  /// Errors: truncated (past the end, or the file shrank), io_failed (the file changed, or the disk failed).
  virtual expected<void> read(std::uint64_t offset, std::span<std::byte> out) const = 0;

  /// `count` bytes from offset on; allocates only what the source has. Errors: as read().
  expected<std::vector<std::byte>> read_bytes(std::uint64_t offset, std::uint64_t count) const;
  /// All of it. Errors: too_large, and as read().
  expected<std::string> read_text(std::uint64_t bytes_max) const;
};

/// Opens the regular file `name` in `folder`. The name is a plain one: neither "/" nor "..", and no symbolic link, so that no
/// index of a stranger leads out of the folder. Errors: not_found, refused (name, link), malformed (no regular file), io_failed.
expected<std::shared_ptr<const byte_source>> open_source(const std::string& folder, const std::string& name);

/// Opens a file by the path that the user gave. Errors: as above; a link is refused as well.
expected<std::shared_ptr<const byte_source>> open_source(const std::string& path);

std::shared_ptr<const byte_source> memory_source(std::vector<std::byte> bytes, std::string where);

}  // namespace isthmus
