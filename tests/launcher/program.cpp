#include "tests/launcher/program.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

namespace isthmus::tests {

namespace {

[[noreturn]] void become(const std::vector<std::string>& arguments, std::vector<std::string> environment) {
  const std::string program = ISTHMUS_PROGRAM;
  environment.push_back("PATH=/usr/bin:/bin");
  environment.push_back("HOME=/nonexistent");
  std::vector<char*> argv{const_cast<char*>(program.c_str())}, envp;
  for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  for (const auto& e : environment) envp.push_back(const_cast<char*>(e.c_str()));
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  ::execve(program.c_str(), argv.data(), envp.data());
  ::_exit(127);
}

int ended(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

outcome run_isthmus(const std::vector<std::string>& arguments, const surroundings& where) {
  std::array<int, 2> out{}, err{};
  if (::pipe(out.data()) != 0 || ::pipe(err.data()) != 0) std::abort();
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(::open("/dev/null", O_RDONLY), 0);
    ::dup2(where.output.empty() ? out[1] : ::open(where.output.c_str(), O_WRONLY), 1);
    ::dup2(err[1], 2);
    for (const int fd : {out[0], out[1], err[0], err[1]}) ::close(fd);
    if (where.output_closed) ::close(1);
    if (!where.folder.empty() && ::chdir(where.folder.c_str()) != 0) ::_exit(126);
    become(arguments, where.environment);
  }
  ::close(out[1]);
  ::close(err[1]);
  outcome result;
  std::array<pollfd, 2> open{pollfd{out[0], POLLIN, 0}, pollfd{err[0], POLLIN, 0}};
  std::array<std::string*, 2> texts{&result.out, &result.err};
  while (open[0].fd >= 0 || open[1].fd >= 0) {
    ::poll(open.data(), open.size(), -1);
    for (std::size_t i = 0; i < 2; ++i) {
      if (open[i].fd < 0 || open[i].revents == 0) continue;
      std::array<char, 4096> block;
      const auto got = ::read(open[i].fd, block.data(), std::min(block.size(), where.read_bytes_max));
      if (got > 0) texts[i]->append(block.data(), static_cast<std::size_t>(got));
      if (got <= 0 || (i == 0 && result.out.size() >= where.read_bytes_max)) {
        ::close(open[i].fd);
        open[i].fd = -1;
      }
    }
  }
  result.code = ended(child);
  return result;
}

pid_t start_isthmus(const std::vector<std::string>& arguments, const surroundings& where) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(::open("/dev/null", O_RDONLY), 0);
    ::dup2(::open(where.output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644), 1);
    ::dup2(1, 2);
    if (!where.folder.empty() && ::chdir(where.folder.c_str()) != 0) ::_exit(126);
    become(arguments, where.environment);
  }
  return child;
}

outcome run_isthmus_at_terminal(const std::vector<std::string>& arguments, const std::vector<std::string>& environment) {
  int terminal = -1;
  winsize size{};
  size.ws_col = 80;
  size.ws_row = 24;
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, &size);
  if (child == 0) become(arguments, environment);
  outcome result;
  std::array<char, 4096> block;
  for (;;) {
    const auto got = ::read(terminal, block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;  // EIO: the other end is gone
    result.out.append(block.data(), static_cast<std::size_t>(got));
  }
  ::close(terminal);
  result.code = ended(child);
  return result;
}

scratch_folder::scratch_folder() {
  std::string name = (std::filesystem::temp_directory_path() / "isthmus-launcher-XXXXXX").string();
  path = ::mkdtemp(name.data());
}

scratch_folder::~scratch_folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace isthmus::tests
