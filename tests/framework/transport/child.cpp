#include "tests/framework/transport/child.hpp"

#include "framework/core/error.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

extern char** environ;

namespace isthmus::testing {

child::child(site_id site, incarnation_number incarnation, const std::string& listen, site_id peer, const std::string& peer_address) {
  int in[2], out[2];
  ensure(::pipe2(in, O_CLOEXEC) == 0 && ::pipe2(out, O_CLOEXEC) == 0, "pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  std::vector<std::string> words{TRANSPORT_PEER, std::to_string(site), std::to_string(incarnation),
                                 listen,         std::to_string(peer), peer_address};
  std::vector<char*> arguments;
  for (auto& w : words) arguments.push_back(w.data());
  arguments.push_back(nullptr);
  ensure(posix_spawn(&process_, TRANSPORT_PEER, &actions, nullptr, arguments.data(), environ) == 0, "posix_spawn");
  posix_spawn_file_actions_destroy(&actions);
  ::close(in[0]);
  ::close(out[1]);
  input_ = in[1];
  for (char c = 0; ::read(out[0], &c, 1) == 1 && c != '\n';) address_ += c;
  ::close(out[0]);
  ensure(!address_.empty(), "the peer process did not start");
}

child::~child() { kill(); }

void child::signal(int number) { ::kill(process_, number); }

int child::leave() {
  ::close(std::exchange(input_, -1));
  int status = -1;
  ::waitpid(std::exchange(process_, -1), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void child::kill() {
  if (input_ >= 0) ::close(std::exchange(input_, -1));
  if (process_ < 0) return;
  ::kill(process_, SIGKILL);
  ::waitpid(std::exchange(process_, -1), nullptr, 0);
}

std::size_t open_descriptors() {
  using iterator = std::filesystem::directory_iterator;
  return static_cast<std::size_t>(std::distance(iterator("/proc/self/fd"), iterator()));
}

}  // namespace isthmus::testing
