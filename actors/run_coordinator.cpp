#include "actors/coordinator.hpp"
#include "actors/incarnation.hpp"
#include "actors/lock_file.hpp"
#include "actors/messages.hpp"
#include "actors/process.hpp"
#include "actors/run.hpp"
#include "framework/core/exit_code.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/rounds/file_log.hpp"
#include "framework/transport/etcd_log.hpp"

#include <caf/actor_system.hpp>
#include <caf/exit_reason.hpp>
#include <caf/send.hpp>
#include <fmt/format.h>

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <utility>

namespace isthmus::actors {

namespace {

constexpr const char* log_name = "coordinator.jsonl";
constexpr auto etcd_patience = std::chrono::seconds(1);  // for an answer of one member
constexpr auto copy_patience = std::chrono::seconds(2);

using told_event = std::function<void(const std::string& kind, const std::string& text)>;

/// A port that is ours, though nobody can call it: who waits for the lead must find its own free then.
class held_port {
public:
  explicit held_port(const std::string& address) {
    const auto at = parse_address(address);
    if (!at) return;
    fd_ = ::socket(at->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(fd_, at->get(), at->size) != 0) {}  // told when it listens
  }
  ~held_port() {
    if (fd_ >= 0) ::close(fd_);
  }
  held_port(const held_port&) = delete;
  held_port& operator=(const held_port&) = delete;

private:
  int fd_ = -1;
};

/// The log in etcd, with a copy of it in the run's folder: what stands there is in etcd, and nobody has heard of what does not stand there.
class copied_log final : public coordinator_log {
public:
  copied_log(std::unique_ptr<etcd_log> log, storage& disk, std::string lock, told_event told)
      : log_(std::move(log)), disk_(disk), lock_(std::move(lock)), told_(std::move(told)) {
    entries_ = log_->entries();
  }
  /// Errors: malformed, the copy has what etcd has not; else as of file_log::read.
  expected<void> begin() {
    const auto copied = file_log::read(disk_, log_name);
    if (!copied) return copied.failure();
    if (copied->size() > entries_.size() || !std::equal(copied->begin(), copied->end(), entries_.begin()))
      return fail(errc::malformed,
                  fmt::format("{} has {} entries, etcd {}, or other ones: this is not the etcd that the run began with, or it "
                              "has lost its data; bring them back",
                              log_name, copied->size(), entries_.size()));
    copy(entries_);
    return {};
  }
  etcd_log& in_etcd() { return *log_; }

private:
  expected<void> write(const coordinator_entry& entry) override {
    if (auto ok = log_->append(entry); !ok) return ok;
    copy(log_->entries());
    return {};
  }
  std::string place() const override { return "etcd"; }

  /// A longer copy is newer: another coordinator leads by now, and has written it.
  void copy(const std::vector<coordinator_entry>& all) {
    const lock_file lock(lock_, copy_patience);
    if (!lock.held()) return behind(lock.holder_text() + " holds " + lock_);
    const auto there = file_log::read(disk_, log_name);
    if (there && there->size() >= all.size()) return;
    std::string text;
    for (const auto& entry : all) text += to_line(entry);
    const std::string fresh = std::string(log_name) + ".new";
    auto ok = disk_.write_synced(fresh, std::as_bytes(std::span(text)));
    if (ok) ok = disk_.rename(fresh, log_name);
    if (ok) ok = disk_.sync_folder("");
    if (!ok) behind(ok.error().message);
  }
  void behind(const std::string& why) {
    told_("copy", fmt::format("{} cannot be brought up to what etcd has: {}; it is tried again with the next entry", log_name, why));
  }

  std::unique_ptr<etcd_log> log_;
  storage& disk_;
  std::string lock_;
  told_event told_;
};

struct lead {
  incarnation_number incarnation = 0;
  std::unique_ptr<coordinator_log> log;
  etcd_log* in_etcd = nullptr;  // part of it
};

expected<lead> lead_by_file(storage& disk, const std::string& folder) {
  const auto incarnation = next_incarnation(disk, folder, std::random_device{}());
  if (!incarnation) return incarnation.failure();
  auto log = file_log::open(disk, log_name);
  if (!log) return log.failure();
  return lead{*incarnation, std::make_unique<file_log>(std::move(*log)), nullptr};
}

bool asked_to_stop(const sigset_t& signals) {
  const timespec at_once{0, 0};
  for (int s = 0; (s = sigtimedwait(&signals, nullptr, &at_once)) > 0;)
    if (s == SIGTERM) return true;
  return false;
}

expected<lead> lead_by_etcd(const coordinator_process& process, storage& disk, const sigset_t& signals, const isthmus::clock& time,
                            const told_event& told) {
  auto client = etcd_client::make(process.plan.coordinator.etcd,
                                  {.sealed = true, .test_network = std::getenv("ISTHMUS_TEST_NETWORK") != nullptr}, etcd_patience);
  if (!client) return client.failure();
  const held_port port(process.listen);
  auto log = etcd_log::lead(
      std::move(*client),
      {process.run_id, process.name, process.listen, to_hex(process.keys->own.key()), process.plan.coordinator.lease_seconds}, time,
      [&] { return asked_to_stop(signals); },
      [&](const std::string& why) {
        if (!why.empty()) told("waits", process.name + " does not lead: " + why);
      });
  if (!log) return log.failure();
  etcd_log* in_etcd = log->get();
  const incarnation_number term = in_etcd->term();
  auto copied = std::make_unique<copied_log>(std::move(*log), disk, process.run_folder + "/sites/coordinator/copy.lock", told);
  if (const auto ok = copied->begin(); !ok) {
    in_etcd->resign();
    return ok.failure();
  }
  return lead{term, std::move(copied), in_etcd};
}

}  // namespace

int run_coordinator(coordinator_process process) {
  const sigset_t signals = block_signals();
  const std::string who = process.name, folder = "sites/" + process.name;
  auto disk = open_disk(process.run_folder);
  if (!disk) return say(who, disk.error().message), exit_environment;
  if (auto ok = (*disk)->make_folders(folder); !ok) return say(who, ok.error().message), exit_environment;
  const lock_file lock(process.run_folder + "/" + folder + "/lock", lock_patience);
  if (!lock.held())
    return say(who, lock.holder_text() + " is the coordinator already (it holds " + folder + "/lock); end it, then resume"),
           exit_environment;
  const real_clock time;
  const told_event told = [sink = process.metrics, &time, who](const std::string& kind, const std::string& text) {
    sink->put(event_row{0, who, kind, text, time.wall_seconds()});
    sink->flush();
  };
  const bool by_etcd = process.plan.coordinator.log == "etcd";
  auto got = by_etcd ? lead_by_etcd(process, **disk, signals, time, told) : lead_by_file(**disk, folder);
  if (!got && by_etcd && got.error().code == errc::timed_out) return say(who, "asked to stop while it did not lead"), exit_stopped;
  if (!got) return say(who, got.error().message), exit_code_of(got.error().code);
  auto wire = open_wire(process.plan, process.run_id, coordinator_id, got->incarnation, process.listen, process.keys, time);
  if (!wire) return say(who, wire.error().message), exit_environment;
  if (process.steering) *wire = process.steering->over(std::move(*wire), static_cast<std::uint64_t>(process.plan.run.seed));
  told("leads",
       fmt::format("{} leads the run, {} in its log", who,
                   got->log->entries().empty() ? "with nothing" : fmt::format("epoch {}", got->log->entries().back().view.number)));

  ending end;
  actor_config settings;
  caf::actor_system system(settings);
  auto parts = std::make_shared<coordinator_parts>(
      coordinator_parts{.plan = process.plan,
                        .run_id = process.run_id,
                        .incarnation = got->incarnation,
                        .groups = static_cast<std::uint32_t>(
                            cut_groups(hybrid_layout(process.plan.model), static_cast<std::uint32_t>(process.plan.round.groups)).size()),
                        .where = tier::real,
                        .wire = **wire,
                        .log = std::move(got->log),
                        .decided = told});
  parts->stopped = [&end, who](int code, std::string reason) {
    if (code != 0) say(who, reason);
    end.code = code;
    end.done = true;
  };
  const caf::actor root = spawn_coordinator(system, parts);  // its log is ours, too: we end the lead, whatever becomes of the actor
  end_with(root, who, end);
  if (got->in_etcd != nullptr) got->in_etcd->when_lost([root](error why) { caf::anon_send(root, log_closed{std::move(why)}); });
  const int code = wait_for_end(who, signals, end, root, 0);
  (*wire)->stop();
  if (got->in_etcd != nullptr && code == exit_stopped) got->in_etcd->resign();  // of a finished run nobody need lead
  caf::anon_send_exit(root, caf::exit_reason::kill);
  std::fflush(nullptr);
  std::_Exit(code);
}

}  // namespace isthmus::actors
