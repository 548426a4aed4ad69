#include "launcher/process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

extern char** environ;

namespace isthmus::launcher {

int reopen_signal() { return SIGRTMIN; }

std::string process_end::text() const {
  if (signal == 0) return fmt::format("exit {}", code);
  const char* name = ::sigabbrev_np(signal);
  return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", signal);
}

expected<process> process::start(const std::vector<std::string>& arguments, const std::string& log_path, const std::vector<int>& kept) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  for (const int fd : kept) posix_spawn_file_actions_adddup2(&files, fd, fd);  // takes its close-on-exec away
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t held, all;
  sigemptyset(&held);
  for (const int s : {SIGUSR1, reopen_signal()}) sigaddset(&held, s);  // they wait until the child hears them, instead of ending it
  sigaddset(&held, SIGXFSZ);                                           // a file that may not grow is an error, not an end
  sigfillset(&all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setsigmask(&attributes, &held);
  posix_spawnattr_setsigdefault(&attributes, &all);
  std::vector<char*> argv{const_cast<char*>("isthmus")};
  for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  pid_t pid = -1;
  const int failed = ::posix_spawn(&pid, "/proc/self/exe", &files, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (failed != 0) return fail(errc::environment, fmt::format("cannot start a process (log {}): {}", log_path, std::strerror(failed)));
  return process(pid);
}

process& process::operator=(process&& other) noexcept {
  std::swap(pid_, other.pid_);
  return *this;
}

process::~process() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void process::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

void process::allow_files_to_grow(bool allowed) const {
  rlimit limit{};
  if (pid_ <= 0 || ::prlimit(pid_, RLIMIT_FSIZE, nullptr, &limit) != 0) return;
  limit.rlim_cur = allowed ? limit.rlim_max : 0;
  ::prlimit(pid_, RLIMIT_FSIZE, &limit, nullptr);
}

std::optional<process_end> process::ended() {
  int status = 0;
  if (pid_ < 0 || ::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = -1;
  if (WIFEXITED(status)) return process_end{WEXITSTATUS(status), 0};
  return process_end{-1, WTERMSIG(status)};
}

}  // namespace isthmus::launcher
