#include "bench/shaped_wire.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

namespace isthmus::bench {

expected<void> leave_the_network() {
  if (::geteuid() != 0)
    return fail(errc::environment, "this needs root: it makes network namespaces and a wire of a fixed rate between them");
  if (::unshare(CLONE_NEWNET | CLONE_NEWNS) != 0)
    return fail(errc::environment, fmt::format("no network namespace: {}", std::strerror(errno)));
  // UCX finds network devices in /sys, which shows those of the namespace that mounted it.
  if (::mount("", "/", nullptr, MS_SLAVE | MS_REC, nullptr) != 0 || ::mount("sysfs", "/sys", "sysfs", 0, nullptr) != 0)
    return fail(errc::environment, fmt::format("no /sys of its own: {}", std::strerror(errno)));
  return run_program("ip link set lo up");
}

expected<guest> guest::start(std::function<void()> work) {
  int ready[2], begin[2];
  if (::pipe(ready) != 0 || ::pipe(begin) != 0) return fail(errc::environment, "no pipe");
  const pid_t process = ::fork();
  if (process < 0) return fail(errc::environment, fmt::format("no process: {}", std::strerror(errno)));
  if (process == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // it does not outlive who asked for it, however that ends
    ::close(begin[1]);
    char word = leave_the_network() ? 'y' : 'n';
    if (::write(ready[1], &word, 1) == 1 && ::read(begin[0], &word, 1) == 1) work();
    std::fflush(nullptr);
    ::_exit(0);
  }
  ::close(begin[0]);
  ::close(ready[1]);
  guest made(process, begin[1]);
  char word = 'n';
  const bool there = ::read(ready[0], &word, 1) == 1 && word == 'y';
  ::close(ready[0]);
  if (!there) return fail(errc::environment, "no second network namespace; this needs root");
  return made;
}

guest::guest(guest&& other) noexcept : process_(std::exchange(other.process_, -1)), start_(std::exchange(other.start_, -1)) {}

guest::~guest() {
  if (process_ < 0) return;
  ::close(start_);
  ::kill(process_, SIGKILL);
  ::waitpid(process_, nullptr, 0);
}

void guest::go() const { [[maybe_unused]] const auto n = ::write(start_, "y", 1); }

expected<void> lay_wire(const guest& to, int net, double bits_per_second) {
  const std::string here = fmt::format("wire{}a", net), there = fmt::format("wire{}b", net);
  // A bucket of 2 ms, at least one large segment; a queue of 25 ms behind it.
  const auto shape = [&](const std::string& device) {
    return fmt::format("tc qdisc add dev {} root tbf rate {:.0f}bit burst {:.0f} latency 25ms", device, bits_per_second,
                       std::max(70'000.0, bits_per_second * 0.002 / 8));
  };
  struct step {
    std::string line;
    pid_t where;
  };
  std::vector<step> steps{{fmt::format("ip link add {} type veth peer name {} netns {}", here, there, to.id()), 0},
                          {fmt::format("ip addr add 10.{}.0.1/24 dev {}", net, here), 0},
                          {fmt::format("ip addr add 10.{}.0.2/24 dev {}", net, there), to.id()},
                          {fmt::format("ip link set {} up", here), 0},
                          {fmt::format("ip link set {} up", there), to.id()}};
  if (bits_per_second > 0) {
    steps.push_back({shape(here), 0});
    steps.push_back({shape(there), to.id()});
  }
  for (const auto& s : steps)
    if (const auto ok = run_program(s.line, s.where); !ok) return ok;
  return {};
}

expected<void> run_program(const std::string& line, pid_t where) {
  const std::string inside = where == 0 ? line : fmt::format("nsenter --target {} --net {}", where, line);
  FILE* said = ::popen((inside + " 2>&1").c_str(), "r");
  if (said == nullptr) return fail(errc::environment, "no process for: " + inside);
  std::string text;
  std::array<char, 256> part;
  while (std::fgets(part.data(), part.size(), said) != nullptr) text += part.data();
  if (::pclose(said) != 0) return fail(errc::environment, fmt::format("{}: {}", inside, text));
  return {};
}

}  // namespace isthmus::bench
