#include "tests/etcd/cluster.hpp"

#include "framework/transport/etcd_client.hpp"
#include "framework/transport/http_post.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>
#include <utility>

extern char** environ;

namespace isthmus::testing {

namespace {

using namespace std::chrono_literals;

std::vector<int> free_ports(std::size_t count) {
  std::vector<int> sockets, ports;
  for (std::size_t i = 0; i < count; ++i) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto* raw = reinterpret_cast<sockaddr*>(&at);
    if (fd < 0 || ::bind(fd, raw, size) != 0 || ::getsockname(fd, raw, &size) != 0) throw std::runtime_error("no free port");
    sockets.push_back(fd);
    ports.push_back(ntohs(at.sin_port));
  }
  for (const int fd : sockets) ::close(fd);
  return ports;
}

std::string url(int port) { return "http://127.0.0.1:" + std::to_string(port); }

}  // namespace

etcd_cluster::etcd_cluster(std::size_t members) : processes_(members, -1) {
  char name[] = "/tmp/isthmus_etcd_XXXXXX";
  if (::mkdtemp(name) == nullptr) throw std::runtime_error("no folder for etcd");
  folder_ = name;
  const auto ports = free_ports(2 * members);
  for (std::size_t i = 0; i < members; ++i) {
    urls_.push_back(url(ports[2 * i]));
    peers_.push_back(url(ports[2 * i + 1]));
  }
  for (std::size_t i = 0; i < members; ++i) start(i);
  wait_until_ready();
}

etcd_cluster::~etcd_cluster() {
  for (std::size_t i = 0; i < processes_.size(); ++i) kill(i);
  std::filesystem::remove_all(folder_);
}

void etcd_cluster::start(std::size_t member) {
  std::string all;
  for (std::size_t i = 0; i < peers_.size(); ++i) all += (i == 0 ? "m" : ",m") + std::to_string(i) + "=" + peers_[i];
  const std::string name = "m" + std::to_string(member), folder = folder_ + "/" + name;
  std::vector<std::string> words{"etcd", "--name", name, "--data-dir", folder, "--log-level", "error"};
  for (const auto& [option, value] : {std::pair{"--listen-client-urls", urls_[member]},
                                      {"--advertise-client-urls", urls_[member]},
                                      {"--listen-peer-urls", peers_[member]},
                                      {"--initial-advertise-peer-urls", peers_[member]},
                                      {"--initial-cluster", all},
                                      {"--initial-cluster-token", folder_}})
    words.insert(words.end(), {option, value});
  std::vector<char*> arguments;
  for (auto& w : words) arguments.push_back(w.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 1, (folder + ".log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  const int failed = ::posix_spawnp(&processes_[member], "etcd", &files, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (failed != 0) throw std::runtime_error("etcd cannot be started: scripts/install_packages.sh installs it (package etcd-server)");
}

void etcd_cluster::kill(std::size_t member) {
  if (processes_[member] < 0) return;
  ::kill(processes_[member], SIGKILL);
  ::waitpid(std::exchange(processes_[member], -1), nullptr, 0);
}

void etcd_cluster::wait_until_ready() const {
  const auto client = etcd_client::make(urls_, {.sealed = true, .test_network = false}, 1s);
  std::string why;
  for (int i = 0; i < 300; ++i) {
    const auto answer = client->get("/ready");
    if (answer) return;
    why = answer.error().message;
    std::this_thread::sleep_for(200ms);
  }
  std::ifstream log(folder_ + "/m0.log");
  throw std::runtime_error(why + "\n" + std::string(std::istreambuf_iterator<char>(log), {}));
}

std::size_t etcd_cluster::leader() const {
  for (std::size_t i = 0; i < urls_.size(); ++i) {
    if (processes_[i] < 0) continue;
    const auto answer = http_post(*parse_etcd_url(urls_[i]), "/v3/maintenance/status", "{}", 2s);
    if (!answer) continue;
    const auto status = nlohmann::json::parse(answer->body);
    if (status.at("header").at("member_id") == status.at("leader")) return i;
  }
  throw std::runtime_error("no member of the etcd leads");
}

}  // namespace isthmus::testing
