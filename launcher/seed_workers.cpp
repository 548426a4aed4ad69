#include "launcher/seed_workers.hpp"

#include "launcher/process.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <new>
#include <system_error>
#include <vector>

namespace isthmus::launcher {

namespace {

[[noreturn]] void cannot(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

/// The next seed to begin, shared by all processes.
class shared_counter {
public:
  explicit shared_counter(std::uint64_t first) {
    void* page = ::mmap(nullptr, sizeof(std::atomic<std::uint64_t>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) cannot("cannot share memory with the workers");
    next_ = new (page) std::atomic<std::uint64_t>(first);
  }
  ~shared_counter() { ::munmap(next_, sizeof *next_); }
  shared_counter(const shared_counter&) = delete;
  shared_counter& operator=(const shared_counter&) = delete;
  std::uint64_t take() { return next_->fetch_add(1); }

private:
  std::atomic<std::uint64_t>* next_;
};

void write_whole(int fd, const void* from, std::size_t n) {
  const auto* at = static_cast<const char*>(from);
  while (n > 0) {
    const ssize_t written = ::write(fd, at, n);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) ::_exit(1);  // nobody listens any more
    at += written;
    n -= static_cast<std::size_t>(written);
  }
}

/// What a worker says: the seed it begins (no bytes follow), and that seed again with the answer.
struct header {
  std::uint64_t seed, bytes;
};
constexpr std::uint64_t begins = UINT64_MAX;

[[noreturn]] void be_worker(const seed_work& w, shared_counter& next, int out) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGINT, SIG_IGN);  // the parent decides
  for (std::uint64_t seed = next.take(); seed >= w.first && seed <= w.last; seed = next.take()) {
    const header begun{seed, begins};
    write_whole(out, &begun, sizeof begun);
    const std::string answer = w.work(seed);
    const header done{seed, answer.size()};
    write_whole(out, &done, sizeof done);
    write_whole(out, answer.data(), answer.size());
  }
  ::_exit(0);
}

using time = std::chrono::steady_clock::time_point;

/// Seconds that a process has had of a CPU; 0 when it has ended.
double cpu_seconds(pid_t pid) {
  clockid_t clock{};
  timespec used{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &used) != 0) return 0;
  return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
}

struct worker {
  pid_t pid = -1;
  int in = -1;
  std::string unread;
  bool busy = false;
  std::string too_late;  // why it was ended
  std::uint64_t seed = 0;
  time since{};
  double cpu_since = 0;  // seconds
};

/// Why a seed has had long enough; empty when it has not.
std::string over_time(const seed_work& w, const worker& k) {
  if (!k.busy || !k.too_late.empty()) return {};
  if (cpu_seconds(k.pid) - k.cpu_since > w.seconds_max) return fmt::format("no end within {} s of CPU time", w.seconds_max);
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - k.since;
  return wall.count() > w.wall_seconds_max ? fmt::format("no end within {} s of wall time", w.wall_seconds_max) : "";
}

worker start_worker(const seed_work& w, shared_counter& next) {
  int ends[2];
  if (::pipe(ends) != 0) cannot("cannot make a pipe to a worker");
  const pid_t pid = ::fork();
  if (pid < 0) cannot("cannot start a worker");
  if (pid == 0) {
    ::close(ends[0]);
    be_worker(w, next, ends[1]);
  }
  ::close(ends[1]);
  worker made;
  made.pid = pid;
  made.in = ends[0];
  return made;
}

/// Takes in what the worker has said. False at its end.
bool listen(const seed_work& w, worker& from) {
  char bytes[65536];
  const ssize_t n = ::read(from.in, bytes, sizeof bytes);
  if (n < 0 && errno == EINTR) return true;
  if (n <= 0) return false;
  from.unread.append(bytes, static_cast<std::size_t>(n));
  for (;;) {
    header h{};
    if (from.unread.size() < sizeof h) return true;
    std::memcpy(&h, from.unread.data(), sizeof h);
    if (h.bytes == begins) {
      from.busy = true;
      from.seed = h.seed;
      from.since = std::chrono::steady_clock::now();
      from.cpu_since = cpu_seconds(from.pid);
      from.unread.erase(0, sizeof h);
      continue;
    }
    if (from.unread.size() < sizeof h + h.bytes) return true;
    from.busy = false;
    w.report({h.seed, {}, from.unread.substr(sizeof h, h.bytes)});
    from.unread.erase(0, sizeof h + h.bytes);
  }
}

/// The worker has closed its pipe: tells of the seed that it was at. True when there is more to do than it did.
bool bury(const seed_work& w, worker& dead) {
  int status = 0;
  while (::waitpid(dead.pid, &status, 0) < 0 && errno == EINTR) continue;
  ::close(dead.in);
  const process_end end{WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0};
  if (!dead.busy) return end.code != 0;
  w.report({dead.seed, dead.too_late.empty() ? end.text() : dead.too_late, {}});
  return true;
}

}  // namespace

void run_seeds(const seed_work& w) {
  shared_counter next(w.first);
  std::vector<worker> workers;
  for (int i = 0; i < w.processes; ++i) workers.push_back(start_worker(w, next));
  bool stopping = false;
  while (!workers.empty()) {
    std::vector<pollfd> watched;
    for (const worker& k : workers) watched.push_back({k.in, POLLIN, 0});
    ::poll(watched.data(), watched.size(), 100);
    if (!stopping && w.stopped && w.stopped()) {
      stopping = true;
      for (const worker& k : workers) ::kill(k.pid, SIGKILL);
    }
    std::vector<worker> kept;
    for (std::size_t i = 0; i < workers.size(); ++i) {
      worker& k = workers[i];
      if (auto why = over_time(w, k); !why.empty()) {
        k.too_late = std::move(why);
        ::kill(k.pid, SIGKILL);
      }
      if (watched[i].revents == 0 || listen(w, k)) {
        kept.push_back(std::move(k));
      } else if (stopping) {
        k.busy = false;
        bury(w, k);
      } else if (bury(w, k)) {
        kept.push_back(start_worker(w, next));
      }
    }
    workers = std::move(kept);
  }
}

}  // namespace isthmus::launcher
