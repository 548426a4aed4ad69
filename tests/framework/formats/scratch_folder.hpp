#pragma once

#include "framework/checkpoint/safetensors.hpp"
#include "framework/core/storage.hpp"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace isthmus::testing {

/// A folder of its own on the real disk, removed at the end.
class scratch_folder {
public:
  scratch_folder();
  ~scratch_folder();
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;

  const std::string& path() const { return path_; }
  storage& disk() { return *disk_; }
  void write(const std::string& name, std::string_view text);

private:
  std::string path_;
  std::unique_ptr<storage> disk_;
};

/// A safetensors file: size, header, and data_bytes bytes 0, 1, 2, ...
std::string safetensors_text(const std::string& header, std::size_t data_bytes);

std::vector<std::byte> bytes_of(std::string_view text);
std::string file_text(const std::string& path);

}  // namespace isthmus::testing
