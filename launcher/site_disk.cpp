#include "launcher/site_disk.hpp"

#include "actors/incarnation.hpp"
#include "actors/site_start.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

namespace isthmus::launcher {

namespace fs = std::filesystem;

void lose_disk(const std::string& run_path, site_id site) {
  std::error_code failed;
  fs::remove(fmt::format("{}/ledger/site-{}.jsonl", run_path, site), failed);
  fs::remove_all(run_path + "/" + actors::checkpoint_folder(site), failed);
  fs::remove(run_path + "/" + actors::own_folder(site) + "/incarnation", failed);
}

bool rot_checkpoint(const std::string& run_path, site_id site, std::set<std::string>& rotten, rng& draws) {
  std::vector<std::string> good, files;
  std::error_code failed;
  for (const auto& saved : fs::directory_iterator(run_path + "/" + actors::checkpoint_folder(site), failed))
    if (fs::exists(saved.path() / "manifest.json", failed) && !rotten.contains(saved.path().string()))
      good.push_back(saved.path().string());
  if (good.size() < 2) return false;
  std::sort(good.begin(), good.end());
  const auto victim = good[draws.below(good.size())];
  for (const auto& file : fs::directory_iterator(victim, failed))
    if (file.is_regular_file(failed) && file.file_size(failed) > 0) files.push_back(file.path().string());
  if (files.empty()) return false;
  std::sort(files.begin(), files.end());
  std::fstream file(files[draws.below(files.size())], std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(0, std::ios::end);
  const auto size = static_cast<std::uint64_t>(file.tellg());
  if (!file || size == 0) return false;  // it was removed a moment ago
  const auto at = static_cast<std::streamoff>(draws.below(size));
  file.seekg(at);
  const int byte = file.get();
  file.seekp(at);
  file.put(static_cast<char>(byte ^ 1 << draws.below(8)));
  rotten.insert(victim);
  return true;
}

}  // namespace isthmus::launcher
