// Two threads beside one busy core against one quiet thread: what a core that somebody else uses costs.
#include "bench/report.hpp"
#include "bench/train_step.hpp"
#include "kernels/stealing_team.hpp"

#include <CLI/CLI.hpp>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace isthmus::bench {

namespace {

/// A child process that keeps one core busy between on() and off(). Made before there is anything to share: behind a fork every page that
/// the parent writes is copied first, which would be timed too.
class busy_core {
public:
  explicit busy_core(int core) : child_(fork()) {
    if (child_ != 0) {
      off();
      return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(static_cast<std::size_t>(core), &only);
    sched_setaffinity(0, sizeof only, &only);
    while (true) asm volatile("");
  }
  ~busy_core() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  busy_core(const busy_core&) = delete;
  busy_core& operator=(const busy_core&) = delete;
  void on() const { tell(SIGCONT); }
  void off() const { tell(SIGSTOP); }

private:
  void tell(int signal) const {
    if (child_ > 0) kill(child_, signal);
  }
  pid_t child_;
};

/// Tokens a wall second over `steps` steps.
double speed(train_step& step, std::int64_t tokens, int steps) {
  const double begin = wall_seconds();
  for (int i = 0; i < steps; ++i) step.run();
  return static_cast<double>(tokens * steps) / (wall_seconds() - begin);
}

int run(int argc, char** argv) {
  int rounds = 5, steps = 2, core = 1;
  std::int64_t tokens = 4096;
  CLI::App app{"Two threads beside one busy core"};
  app.add_option("--rounds", rounds, "Rounds of both in turn");
  app.add_option("--steps", steps, "Training steps a round");
  app.add_option("--tokens", tokens, "Tokens a step");
  app.add_option("--core", core, "The core that is kept busy");
  CLI11_PARSE(app, argc, argv);
  print_machine();
  const busy_core busy(core);
  const train_shape shape{256, 8, 256, 2048, tokens, "a2", precision_kind::fp32};
  kernels::stealing_team one(1), two(2);
  train_step quiet(shape, one), beside(shape, two);
  quiet.run();
  beside.run();
  std::vector<double> quiet_speeds, beside_speeds, ratios;
  for (int round = 0; round < rounds; ++round) {
    quiet_speeds.push_back(speed(quiet, shape.tokens, steps));
    busy.on();
    beside_speeds.push_back(speed(beside, shape.tokens, steps));
    busy.off();
    ratios.push_back(beside_speeds.back() / quiet_speeds.back());
  }
  figure f;
  f.name = "train 8.2M a2 f32, two threads beside one busy core";
  f.unit = "token/s";
  f.value = median(beside_speeds);
  f.peer = "one quiet thread of ours";
  f.peer_value = median(quiet_speeds);
  f.runs = rounds;
  f.spread = spread(ratios);
  print(f);
  return 0;
}

}  // namespace

}  // namespace isthmus::bench

int main(int argc, char** argv) { return isthmus::bench::run(argc, argv); }
