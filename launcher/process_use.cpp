#include "launcher/process_use.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace isthmus::launcher {

std::optional<process_use> look_at_process(pid_t pid, double wall) {
  process_use use;
  use.wall = wall;
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    std::istringstream words(line);
    std::string key;
    words >> key;
    if (key == "VmRSS:") words >> use.resident_kib;
    if (key == "Threads:") words >> use.threads;
  }
  if (use.resident_kib == 0) return std::nullopt;  // it has ended, or is about to begin
  std::error_code gone;
  for (std::filesystem::directory_iterator at(fmt::format("/proc/{}/fd", pid), gone), end; !gone && at != end; at.increment(gone))
    ++use.descriptors;
  if (gone) return std::nullopt;
  return use;
}

std::optional<process_use> median_use(const std::vector<process_use>& seen, double from, double to) {
  std::vector<process_use> part;
  std::copy_if(seen.begin(), seen.end(), std::back_inserter(part), [&](const auto& u) { return u.wall >= from && u.wall <= to; });
  if (part.empty()) return std::nullopt;
  const auto middle = [&](auto field) {
    std::vector<std::int64_t> values;
    for (const auto& u : part) values.push_back(u.*field);
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
  };
  return process_use{to, middle(&process_use::resident_kib), middle(&process_use::descriptors), middle(&process_use::threads)};
}

}  // namespace isthmus::launcher
