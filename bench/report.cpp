#include "bench/report.hpp"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

namespace isthmus::bench {

namespace {

/// The value of a "key : value" line of /proc/cpuinfo.
std::string cpu_info(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key) && line.find(": ") != std::string::npos) return line.substr(line.find(": ") + 2);
  return "unknown";
}

std::string flags_of_note() {
  std::istringstream all(cpu_info("flags"));
  std::string noted;
  for (std::string flag; all >> flag;)
    for (const char* wanted : {"avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8"})
      if (flag == wanted) noted += (noted.empty() ? "" : " ") + flag;
  return noted;
}

double seconds_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::string number(const std::optional<double>& value) { return value ? fmt::format("{:.5g}", *value) : "null"; }

}  // namespace

void print_machine() {
  utsname system{};
  uname(&system);
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE)) / (1 << 30);
  fmt::print(
      "{{\"machine\": \"{}\", \"cores\": {}, \"flags\": \"{}\", \"memory_gib\": {:.1f}, \"kernel\": \"{}\", \"compiler\": \"{}\"}}\n",
      cpu_info("model name"), sysconf(_SC_NPROCESSORS_ONLN), flags_of_note(), memory, system.release, __VERSION__);
  std::fflush(stdout);
}

void print(const figure& f) {
  std::optional<double> ratio;
  if (f.peer_value && f.value > 0 && *f.peer_value > 0) ratio = f.less_is_better ? *f.peer_value / f.value : f.value / *f.peer_value;
  fmt::print(
      "{{\"name\": \"{}\", \"value\": {:.6g}, \"unit\": \"{}\", \"peer\": \"{}\", \"peer_value\": {}, \"ratio\": {}, "
      "\"limit\": \"{}\", \"share\": {}, \"runs\": {}, \"spread\": {:.3g}}}\n",
      f.name, f.value, f.unit, f.peer, number(f.peer_value), number(ratio), f.limit, number(f.share), f.runs, f.spread);
  std::fflush(stdout);
}

void print_note(const std::string& text) {
  fmt::print("{{\"note\": \"{}\"}}\n", text);
  std::fflush(stdout);
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double spread(const std::vector<double>& values) {
  if (values.empty()) return 0;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const double middle = median(values);
  return middle == 0 ? 0 : (*high - *low) / middle;
}

std::vector<double> memory_read_seconds(std::span<const float> values, int runs) {
  std::vector<double> seconds;
  volatile float kept = 0;
  for (int run = 0; run < runs; ++run) {
    const double start = process_seconds();
    float sums[64] = {};
    for (std::size_t i = 0; i + 64 <= values.size(); i += 64)
      for (std::size_t lane = 0; lane < 64; ++lane) sums[lane] += values[i + lane];
    for (const float s : sums) kept = kept + s;
    seconds.push_back(process_seconds() - start);
  }
  return seconds;
}

double process_seconds() { return seconds_of(CLOCK_PROCESS_CPUTIME_ID); }
double wall_seconds() { return seconds_of(CLOCK_MONOTONIC); }

}  // namespace isthmus::bench
