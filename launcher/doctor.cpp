#include "framework/data/corpus.hpp"
#include "framework/metrics/terminal.hpp"
#include "launcher/build_info.hpp"
#include "launcher/memory.hpp"
#include "launcher/verbs.hpp"
#include "kernels/select.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace isthmus::launcher {

namespace {

namespace fs = std::filesystem;

/// One thing that was looked at.
struct finding {
  std::string what, found;
  enum { good, note, bad } verdict = good;
  std::string advice;
};

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

finding processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string line, model, flags;
  while (std::getline(file, line)) {
    const auto colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name") && model.empty()) model = line.substr(colon + 2);
    if (line.starts_with("flags") && flags.empty()) flags = " " + line.substr(colon + 2) + " ";
  }
  std::string have;
  for (const char* name : {"avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"})
    if (flags.find(fmt::format(" {} ", name)) != std::string::npos) have += fmt::format(" {}", name);
  const bool fast = have.find("avx2") != std::string::npos && have.find("fma") != std::string::npos;
  return {"processor",
          fmt::format("{} x {}:{}", std::thread::hardware_concurrency(), model.empty() ? "unknown" : model,
                      have.empty() ? " no known extension" : have),
          fast ? finding::good : finding::note, fast ? "" : "without AVX2 and FMA the kernels fall back to slower ones"};
}

finding memory() {
  const auto [available, total] = look_at_memory();
  if (total <= 0) return {"memory", "unknown", finding::note, ""};
  const bool enough = available > 1.5e9;
  return {"memory", fmt::format("{} free of {}", show_bytes(available), show_bytes(total)), enough ? finding::good : finding::bad,
          enough ? "" : "the quickstart needs about 1.5 GB"};
}

finding huge_pages() {
  const auto mode = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  if (mode.empty()) return {"huge pages", "not supported here", finding::note, "weights are read 1.4 to 2 times faster with them"};
  const bool usable = mode.find("[never]") == std::string::npos;
  return {"huge pages", mode, usable ? finding::good : finding::note,
          usable ? "" : "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"};
}

/// Files of a library by its loaded name, among those that this process has mapped.
finding library(const char* what, const char* file_part, bool required, const char* advice) {
  std::ifstream maps("/proc/self/maps");
  std::string line;
  while (std::getline(maps, line))
    if (const auto slash = line.find('/'); slash != std::string::npos && line.find(file_part, slash) != std::string::npos)
      return {what, fs::path(line.substr(slash)).filename().string(), finding::good, ""};
  return {what, "not linked", required ? finding::bad : finding::note, advice};
}

finding kernel_backends() {
  std::string names;
  for (const auto* backend : kernels::backends()) names += fmt::format("{}{}", names.empty() ? "" : ", ", backend->name);
  const bool fast = names != "reference";
  return {"kernels", names, fast ? finding::good : finding::note, fast ? "" : "only the plain loops were built"};
}

finding matrix_products() {
  const auto by = kernels::products();
  const bool library = by.find("own kernels") == std::string::npos;
  return {"products", by, library ? finding::good : finding::note,
          library ? "" : "training is slower than with oneDNN (libdnnl-dev) or OpenBLAS (libopenblas-dev) at build time"};
}

finding congestion_control() {
  const auto now = first_line("/proc/sys/net/ipv4/tcp_congestion_control"),
             can = first_line("/proc/sys/net/ipv4/tcp_available_congestion_control");
  if (now.empty()) return {"congestion control", "unknown", finding::note, ""};
  const bool better = now != "bbr" && can.find("bbr") != std::string::npos;
  return {"congestion control", fmt::format("{} (available: {})", now, can), finding::good,
          better ? "bbr holds up better on long lossy paths" : ""};
}

finding open_files() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const bool enough = limit.rlim_cur >= 1024;
  return {"open files", std::to_string(limit.rlim_cur), enough ? finding::good : finding::bad, enough ? "" : "ulimit -n 4096"};
}

finding loopback_ports() {
  int free_ports = 0;
  constexpr int wanted = 8;
  std::vector<int> sockets;
  for (int i = 0; i < wanted; ++i) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) ++free_ports;
    if (fd >= 0) sockets.push_back(fd);
  }
  for (const int fd : sockets) ::close(fd);
  return {"loopback ports", fmt::format("{} of {} could be bound", free_ports, wanted), free_ports == wanted ? finding::good : finding::bad,
          free_ports == wanted ? "" : "a firewall or a sandbox forbids sockets; a run of several sites needs them"};
}

finding disk_space() {
  struct statvfs info {};
  if (::statvfs(".", &info) != 0) return {"disk", "unknown", finding::note, ""};
  const double available = static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize);
  const bool enough = available > 2e9, writable = ::access(".", W_OK) == 0;
  return {"disk", fmt::format("{} free here{}", show_bytes(available), writable ? "" : ", folder not writable"),
          enough && writable ? finding::good : finding::bad,
          !writable ? "run in a folder that you may write, or set ISTHMUS_RUNS"
          : enough  ? ""
                    : "a run of the quickstart keeps about 0.5 GB"};
}

/// dpkg keeps <package>.list, or <package>:<architecture>.list where several may be installed side by side.
bool is_installed(const std::string& package) {
  std::error_code error;
  if (fs::exists(fmt::format("/var/lib/dpkg/info/{}.list", package), error)) return true;
  for (const auto& entry : fs::directory_iterator("/var/lib/dpkg/info", error)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with(package + ":") && name.ends_with(".list")) return true;
  }
  return false;
}

finding source_of_text(const corpus_source& source) {
  const bool there = is_installed(source.package);
  return {"text " + source.name, fmt::format("{} ({}): {}", source.domain, source.package, there ? "installed" : "not installed"),
          there ? finding::good : finding::note, there ? "" : "apt install " + source.package};
}

std::vector<finding> examine() {
  std::vector<finding> out{processor(),
                           memory(),
                           huge_pages(),
                           disk_space(),
                           open_files(),
                           loopback_ports(),
                           congestion_control(),
                           kernel_backends(),
                           matrix_products(),
                           library("UCX", "libucp", true, "built without UCX: only one site can run"),
                           {"CUDA", kernels::gpu(), finding::good, ""}};
  for (const auto& source : corpus_sources()) out.push_back(source_of_text(source));
  return out;
}

}  // namespace

int run_doctor(const doctor_options& options, console& out) {
  const auto findings = examine();
  const bool sound = std::none_of(findings.begin(), findings.end(), [](const finding& f) { return f.verdict == finding::bad; });
  constexpr const char* words[] = {"ok", "note", "BAD"};
  if (options.json) {
    nlohmann::json answer{{"schema", 1}, {"sound", sound}, {"findings", nlohmann::json::array()}};
    for (const auto& f : findings)
      answer["findings"].push_back({{"what", f.what}, {"found", f.found}, {"verdict", words[f.verdict]}, {"advice", f.advice}});
    out.answer(answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
    return sound ? exit_ok : exit_environment;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& f : findings) rows.push_back({words[f.verdict], f.what, f.advice.empty() ? f.found : f.found + "; " + f.advice});
  out.answer(show_table(rows, {false, false, false}));
  return sound ? exit_ok : exit_environment;
}

}  // namespace isthmus::launcher
