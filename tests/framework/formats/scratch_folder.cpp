#include "tests/framework/formats/scratch_folder.hpp"

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace isthmus::testing {

scratch_folder::scratch_folder() {
  static std::atomic<int> number{0};
  path_ =
      (std::filesystem::temp_directory_path() / ("isthmus-formats-" + std::to_string(getpid()) + "-" + std::to_string(number++))).string();
  disk_ = std::move(*open_disk(path_));
}

scratch_folder::~scratch_folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void scratch_folder::write(const std::string& name, std::string_view text) { std::ofstream(path_ + "/" + name, std::ios::binary) << text; }

std::string safetensors_text(const std::string& header, std::size_t data_bytes) {
  std::string text;
  for (std::size_t i = 0; i < 8; ++i) text += static_cast<char>(header.size() >> (8 * i) & 0xff);
  text += header;
  for (std::size_t i = 0; i < data_bytes; ++i) text += static_cast<char>(i & 0x7f);
  return text;
}

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto all = std::as_bytes(std::span(text.data(), text.size()));
  return {all.begin(), all.end()};
}

std::string file_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace isthmus::testing
