#include "launcher/children.hpp"

#include "actors/run.hpp"
#include "framework/emulator/space.hpp"
#include "launcher/keys.hpp"
#include "launcher/process.hpp"
#include "launcher/run_folder.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <thread>

namespace isthmus::launcher {

namespace {

/// The run store as the actors' sink.
class store_sink final : public actors::metrics_sink {
public:
  explicit store_sink(const std::string& run_path) : writer_(run_path + "/" + run_store_name) {}
  void put(store_row row) override { writer_.put(std::move(row)); }
  void flush() override {
    const auto before = writer_.health().last_error;
    if (!writer_.flush() && writer_.health().last_error != before)
      std::fprintf(stderr, "run store: %s; training goes on\n", writer_.health().last_error.c_str());
  }

private:
  run_store_writer writer_;
};

/// Standard error and output go to the log; on the launcher's word (it heard SIGHUP) they are opened again by name.
void follow_log(const std::string& path) {
  const auto reopen = [path] {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return;
    ::dup2(fd, STDOUT_FILENO);
    ::dup2(fd, STDERR_FILENO);
    ::close(fd);
  };
  reopen();
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, reopen_signal());
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);  // all threads to come inherit it
  std::thread([set, reopen] {
    for (int heard = 0; ::sigwait(&set, &heard) == 0;) reopen();
  }).detach();
}

/// A launcher that dies takes its children along: they finish their period, checkpoint and end, so that a resume finds the field clear.
bool follow_launcher(pid_t launcher) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  return ::getppid() == launcher;
}

/// What is freed goes back to the kernel. By itself glibc takes a block of the size that was freed last from an arena from then on, and
/// keeps it there: arrays of groups that come and go with a site's role leave holes, and memory grows as long as membership changes.
void give_memory_back() { ::mallopt(M_MMAP_THRESHOLD, 128 << 10); }

/// The texts of other sites that this one may audit. One that is not here, or not what its site trains on, is told of: nothing else needs it.
std::map<site_id, std::shared_ptr<const token_shard>> shared_texts(const run_folder& run, std::size_t self, const storage& disk,
                                                                   console& out) {
  std::map<site_id, std::shared_ptr<const token_shard>> texts;
  if (run.plan.guard.audit_rate == 0 || !run.plan.sites[self].home) return texts;
  for (std::size_t site = 0; site < run.plan.sites.size(); ++site) {
    if (site == self || !run.plan.sites[site].shared_text) continue;
    shard_expectation expect;
    expect.vocabulary = static_cast<std::uint32_t>(run.plan.data.vocabulary);
    expect.content = parse_hash(run.people.sites[site].content);
    auto shard = read_shard(disk, run.people.sites[site].shard, expect);
    if (shard)
      texts[static_cast<site_id>(site)] = std::make_shared<const token_shard>(std::move(*shard));
    else
      out.warn(fmt::format("site {} does not audit {}: {}", run.plan.sites[self].name, run.plan.sites[site].name, shard.error().message));
  }
  return texts;
}

}  // namespace

int run_child(const child_options& options, console& out) {
  give_memory_back();
  if (!follow_launcher(static_cast<pid_t>(options.launcher))) return exit_stopped;
  if (options.space >= 0)
    if (const auto ok = emulator::enter_space(static_cast<int>(options.space)); !ok) return out.error(ok.error());
  std::shared_ptr<emulator::steering> steering;
  if (options.steering >= 0)  // without its launcher a rehearsal is over, and its network gone
    steering = std::make_shared<emulator::steering>(static_cast<int>(options.steering), [] { std::_Exit(exit_stopped); });
  follow_log(options.log);
  auto run = open_run_folder(options.run);
  if (!run) return out.error(run.error());
  store_sink metrics(run->path);
  const auto keys = read_keys(*run, options.site < 0 ? coordinator_id : static_cast<site_id>(options.site));
  if (options.site < 0 && !keys) return out.error(keys.error());
  const auto place = static_cast<std::size_t>(options.place);
  if (options.site < 0 && place >= run->people.coordinators.size())
    return out.error(exit_usage, fmt::format("no coordinator {} in {}", options.place, run->path));
  if (options.site < 0)
    return actors::run_coordinator(
        {run->plan, run->people.run_id, run->path, coordinator_name(place), run->people.coordinators[place], *keys, &metrics, steering});
  const auto id = static_cast<std::size_t>(options.site);
  if (id >= run->people.sites.size()) return out.error(exit_usage, fmt::format("no site {} in {}", options.site, run->path));
  if (!keys) return out.error(keys.error());
  const auto& self = run->people.sites[id];
  auto disk = open_disk(run->path);
  if (!disk) return out.error(disk.error());
  shard_expectation expect;
  expect.vocabulary = static_cast<std::uint32_t>(run->plan.data.vocabulary);
  expect.content = parse_hash(self.content);
  auto shard = read_shard(**disk, self.shard, expect);
  if (!shard)
    return out.error(exit_file, fmt::format("{}; bring the file back from a copy, then `isthmus resume` goes on",
                                            told_of_run(run->path, shard.error().message)));
  if (run->plan.data.documents == "separate") {
    const auto end = end_of_documents(shard->train);
    if (!end)
      return out.error(exit_file,
                       told_of_run(run->path, fmt::format("{}: its documents do not end with one token, by which data.documents = "
                                                          "\"separate\" would know them",
                                                          self.shard)));
    run->plan.model.document_mark = *end;
  }
  actors::site_process process;
  process.shared_texts = shared_texts(*run, id, **disk, out);
  process.plan = run->plan;
  process.run_id = run->people.run_id;
  process.run_folder = run->path;
  process.self = self.id;
  process.addresses = run->people.addresses();
  process.keys = *keys;
  process.tokens = std::make_shared<const token_shard>(std::move(*shard));
  process.domain = self.domain;
  process.unigram_entropy = self.unigram_entropy;
  process.metrics = &metrics;
  process.steering = std::move(steering);
  return actors::run_site(std::move(process));
}

}  // namespace isthmus::launcher
