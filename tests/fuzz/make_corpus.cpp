// Writes the seeds into the folder given, a folder a target.
#include "tests/fuzz/targets.hpp"

#include <filesystem>
#include <fstream>

int main(int argc, char** argv) {
  const std::filesystem::path root = argc > 1 ? argv[1] : "tests/fuzz/corpus";
  for (const auto& seed : isthmus::fuzz::seeds()) {
    std::filesystem::create_directories(root / seed.target);
    std::ofstream(root / seed.target / seed.name, std::ios::binary)
        .write(reinterpret_cast<const char*>(seed.bytes.data()), static_cast<std::streamsize>(seed.bytes.size()));
  }
}
