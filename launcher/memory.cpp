#include "launcher/memory.hpp"

#include "framework/metrics/terminal.hpp"
#include "framework/models/hybrid_model.hpp"

#include <fmt/format.h>
#include <sys/sysinfo.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace isthmus::launcher {

machine_memory look_at_memory() {
  struct sysinfo info {};
  if (::sysinfo(&info) != 0) return {};
  const double unit = info.mem_unit;
  machine_memory out{static_cast<double>(info.freeram) * unit, static_cast<double>(info.totalram) * unit};
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("MemAvailable:")) out.available = std::strtod(line.c_str() + 13, nullptr) * 1024;
  return out;
}

double memory_of_site(const recipe& plan) {
  constexpr double numbers_a_parameter = 8, bytes_a_number = 4;
  return static_cast<double>(hybrid_layout(plan.model).parameter_count()) * numbers_a_parameter * bytes_a_number;
}

expected<void> check_memory(const recipe& plan) {
  const auto sites = static_cast<double>(plan.sites.size());
  const double needed = memory_of_site(plan) * sites;
  const auto here = look_at_memory();
  if (here.total <= 0 || needed <= here.available) return {};
  return fail(errc::environment,
              fmt::format("{} of {} for weights, gradients, moments and rounds need {} of memory, this machine has {} free of {}: take a "
                          "smaller model or fewer sites",
                          show_counted(static_cast<std::int64_t>(plan.sites.size()), "site"), show_bytes(needed / sites),
                          show_bytes(needed), show_bytes(here.available), show_bytes(here.total)));
}

}  // namespace isthmus::launcher
