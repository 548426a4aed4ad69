#pragma once

#include "framework/core/storage.hpp"

#include <unistd.h>

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace isthmus {

/// A folder of its own, removed at the end.
struct scratch {
  std::string path = (std::filesystem::temp_directory_path() / ("isthmus-data-" + std::to_string(getpid()))).string();
  std::unique_ptr<storage> disk = *open_disk(path);
  ~scratch() { std::filesystem::remove_all(path); }

  void put(const std::string& name, std::string_view text) {
    std::filesystem::create_directories(std::filesystem::path(path + "/" + name).parent_path());
    ensure(disk->write_synced(name, std::as_bytes(std::span(text))).has_value(), "scratch: cannot write");
  }
};

}  // namespace isthmus
