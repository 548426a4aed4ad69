#pragma once

#include "framework/core/storage.hpp"

#include <span>
#include <string>

namespace isthmus {

/// Writes to a temporary name, syncs, renames, syncs the folder: a reader finds all of the bytes or none. Makes the folder.
expected<void> write_atomically(storage& disk, const std::string& path, std::span<const std::byte> bytes);

}  // namespace isthmus
