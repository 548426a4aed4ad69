#include "bench/site_cost.hpp"

#include "actors/run.hpp"
#include "bench/report.hpp"
#include "framework/core/error.hpp"
#include "framework/core/rng.hpp"
#include "framework/metrics/run_store.hpp"
#include "kernels/stealing_team.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace isthmus::bench {

namespace {

constexpr site_id sites = 3;

/// CPU times of three processes at the ends of a window, in memory that they share with their parent.
class window_times {
public:
  explicit window_times(step_window window)
      : window_(window),
        times_(static_cast<pair*>(::mmap(nullptr, sites * sizeof(pair), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    ensure(times_ != MAP_FAILED, "site_cost: no shared memory");
  }
  ~window_times() { ::munmap(times_, sites * sizeof(pair)); }
  window_times(const window_times&) = delete;
  window_times& operator=(const window_times&) = delete;

  void after_step(site_id site, std::int64_t step) {
    if (step == window_.first) times_[site].first = process_seconds();
    if (step == window_.last) times_[site].last = process_seconds();
  }
  double mean_seconds() const {
    double sum = 0;
    for (site_id id = 0; id < sites; ++id) {
      ensure(times_[id].first > 0 && times_[id].last > times_[id].first, "site_cost: a process left its window out");
      sum += times_[id].last - times_[id].first;
    }
    return sum / sites;
  }

private:
  struct pair {
    double first, last;
  };
  step_window window_;
  pair* times_;
};

/// The run's store, as in a run; every step passes the window.
class timed_metrics final : public actors::metrics_sink {
public:
  timed_metrics(const std::string& store, window_times& times) : writer_(store), times_(times) {}
  void put(store_row row) override {
    if (const auto* sample = std::get_if<sample_row>(&row)) times_.after_step(sample->site, static_cast<std::int64_t>(sample->step));
    writer_.put(std::move(row));
  }
  void flush() override { writer_.flush(); }

private:
  run_store_writer writer_;
  window_times& times_;
};

/// Forks; what the child says goes to a file.
pid_t in_a_process(const std::string& log, const std::function<int()>& body) {
  const pid_t child = ::fork();
  ensure(child >= 0, "site_cost: fork");
  if (child > 0) return child;
  const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  ::dup2(fd, 1);
  ::dup2(fd, 2);
  ::_exit(body());
}

void wait_for(const std::vector<pid_t>& children) {
  for (const pid_t child : children) {
    int status = 0;
    ensure(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "site_cost: a process failed");
  }
}

/// Free ports of this machine, one a process; held until all are picked.
std::map<site_id, std::string> free_addresses() {
  std::map<site_id, std::string> out;
  std::vector<int> held;
  for (const site_id id : {site_id{0}, site_id{1}, site_id{2}, coordinator_id}) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    held.push_back(::socket(AF_INET, SOCK_STREAM, 0));
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    ensure(::bind(held.back(), raw, size) == 0 && ::getsockname(held.back(), raw, &size) == 0, "site_cost: no free port");
    out[id] = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  for (const int fd : held) ::close(fd);
  return out;
}

recipe recipe_of(const train_shape& shape, std::int64_t rounds, std::int64_t inner_steps, std::int64_t checkpoint_every_rounds) {
  recipe r;
  r.run.name = "bench";
  r.run.tokens = rounds * inner_steps * shape.tokens * sites;
  r.model = config_of(shape);
  r.train.context = shape.context;
  r.train.tokens_per_step = shape.tokens;
  r.round.inner_steps = inner_steps;
  r.round.groups = 4;
  r.round.grace_seconds = 30;  // nobody is to be left out
  r.data.vocabulary = shape.vocabulary;
  r.data.held_out_tokens = 0;
  r.data.evaluation_every_rounds = 0;
  r.checkpoint.every_rounds = checkpoint_every_rounds > 0 ? checkpoint_every_rounds : 1'000'000;  // only the one at the end
  for (const char* name : {"a", "b", "c"}) {
    r.sites.emplace_back();
    r.sites.back().name = name;
  }
  return r;
}

std::shared_ptr<const token_shard> random_tokens(const train_shape& shape, site_id site) {
  auto shard = std::make_shared<token_shard>();
  shard->name = "random-" + std::to_string(site);
  shard->vocabulary = static_cast<std::uint32_t>(shape.vocabulary);
  rng random(1, site, 0, draw::token);
  std::vector<std::uint16_t> tokens(200'000);
  for (auto& t : tokens) t = static_cast<std::uint16_t>(random.below(static_cast<std::uint64_t>(shape.vocabulary)));
  shard->train.document_ends = shard->held_out.document_ends = {tokens.size()};
  shard->train.tokens = shard->held_out.tokens = std::move(tokens);
  return shard;
}

/// Of every process, with which it seals its links as in a run.
std::map<site_id, std::shared_ptr<const link_keys>> new_keys() {
  std::map<site_id, std::shared_ptr<link_keys>> made{{coordinator_id, nullptr}};
  for (site_id id = 0; id < sites; ++id) made[id] = nullptr;
  std::map<site_id, public_key> roster;
  for (auto& [id, keys] : made) {
    keys = std::make_shared<link_keys>(link_keys{identity::generate(), {}});
    roster[id] = keys->own.key();
  }
  for (const auto& [id, keys] : made) keys->roster = roster;
  return {made.begin(), made.end()};
}

struct folder {
  std::string path = (std::filesystem::temp_directory_path() / "isthmus-bench-XXXXXX").string();
  folder() { ensure(::mkdtemp(path.data()) != nullptr, "site_cost: no temporary folder"); }
  ~folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

double cost_of_sites(const train_shape& shape, step_window window, std::int64_t inner_steps, std::int64_t checkpoint_every_rounds) {
  const folder run;
  const auto plan = recipe_of(shape, (window.last + inner_steps - 1) / inner_steps, inner_steps, checkpoint_every_rounds);
  const auto addresses = free_addresses();
  const auto keys = new_keys();
  window_times times(window);
  const auto start = [&](const std::function<int(actors::metrics_sink&)>& body) {
    return in_a_process(run.path + "/log", [&] {
      timed_metrics metrics(run.path + "/" + run_store_name, times);
      return body(metrics);
    });
  };
  std::vector<pid_t> children{start([&](actors::metrics_sink& metrics) {
    return actors::run_coordinator(
        {plan, "bench", run.path, "coordinator", addresses.at(coordinator_id), keys.at(coordinator_id), &metrics});
  })};
  for (site_id id = 0; id < sites; ++id)
    children.push_back(start([&, id](actors::metrics_sink& metrics) {
      return actors::run_site({plan, "bench", run.path, id, addresses, keys.at(id), random_tokens(shape, id), "random", 0, &metrics});
    }));
  wait_for(children);
  return times.mean_seconds();
}

double cost_of_bare_loops(const train_shape& shape, step_window window) {
  const folder run;
  window_times times(window);
  std::vector<pid_t> children;
  for (site_id id = 0; id < sites; ++id)
    children.push_back(in_a_process(run.path + "/log", [&] {
      kernels::stealing_team team(1);
      train_step step(shape, team);
      for (std::int64_t i = 1; i <= window.last; ++i) {
        step.run();
        times.after_step(id, i);
      }
      return 0;
    }));
  wait_for(children);
  return times.mean_seconds();
}

}  // namespace isthmus::bench
