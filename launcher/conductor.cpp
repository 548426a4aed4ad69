#include "launcher/conductor.hpp"

#include "framework/models/hybrid_model.hpp"
#include "launcher/children.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>

namespace isthmus::launcher {

namespace {

using namespace std::chrono_literals;
constexpr auto look_every = 500ms;
constexpr auto stop_patience = 120s;        // for the last period and its checkpoint
constexpr int rehearsed_restarts_max = 40;  // what faults make a process end of comes on top of what the recipe kills
constexpr auto rehearsed_restarts_within = std::chrono::minutes(30);

}  // namespace

sigset_t hold_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int s : {SIGINT, SIGTERM, SIGUSR1, SIGHUP}) sigaddset(&set, s);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return set;
}

conductor::conductor(run_folder& run, launch_memory& memory, console& out, stage* where)
    : run_(run),
      memory_(memory),
      out_(out),
      stage_(where),
      display_(run.plan, out),
      store_(run.path + "/" + run_store_name),
      faults_(sim::plan_faults(run.plan, static_cast<std::uint64_t>(run.plan.run.seed))),
      draws_(static_cast<std::uint64_t>(run.plan.run.seed), UINT64_MAX, 1, draw::fault),
      began_(clock_.now()),
      trained_before_(memory.trained_seconds) {
  const auto set = hold_signals();
  signals_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  for (std::size_t place = 0; place < run.people.coordinators.size(); ++place) {
    auto& m = members_.emplace_back();
    m.name = coordinator_name(place);
    m.place = place;
  }
  for (const auto& site : run.people.sites) {
    auto& m = members_.emplace_back();
    m.name = site.name;
    m.site = site.id;
  }
  if (stage_ != nullptr)
    for (auto& m : members_) m.budget = restart_budget(rehearsed_restarts_max, rehearsed_restarts_within);
  row_.id = run.people.run_id;
  row_.name = run.plan.run.name;
  row_.recipe_hash = run.people.recipe_hash;
  row_.planned_tokens = run.plan.run.tokens;
  row_.planned_rounds = planned_rounds(run.plan);
  row_.parameters = hybrid_layout(run.plan.model).parameter_count();
  row_.started = clock_.wall_seconds();
  row_.launcher_pid = ::getpid();
}

conductor::~conductor() {
  if (signals_ >= 0) ::close(signals_);
}

std::string conductor::log_of(const member& m) const { return fmt::format("{}/logs/{}.log", run_.path, m.name); }

std::string conductor::last_log_line(const member& m) const {
  std::ifstream file(log_of(m));
  file.seekg(0, std::ios::end);
  const auto size = static_cast<std::streamoff>(file.tellg());
  file.seekg(std::max<std::streamoff>(0, size - 4096));
  std::string last;
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) last = line;
  return printable(last);
}

void conductor::event(const std::string& kind, const std::string& text) {
  store_.put(event_row{0, "launcher", kind, text, clock_.wall_seconds()});
  store_.flush();
}

void conductor::put_run_row(const std::string& state) {
  memory_.trained_seconds = trained_before_ + to_seconds(clock_.now() - began_);
  row_.state = state;
  row_.message = reason_;
  row_.updated = clock_.wall_seconds();
  row_.trained_seconds = memory_.trained_seconds;
  row_.faults_fired = static_cast<std::int64_t>(memory_.faults_fired.size());
  row_.restarts = memory_.restarts;
  store_.put(row_);
  store_.flush();
}

void conductor::remember() {
  if (const auto ok = write_memory(run_.path, memory_); !ok) event("disk", ok.error().message);
}

void conductor::start(member& m) {
  m.start_at.reset();
  std::vector<std::string> arguments{m.site < 0 ? "coordinator" : "site", "--run", run_.path, "--log", log_of(m), "--launcher",
                                     std::to_string(::getpid())};
  if (m.site >= 0)
    arguments.insert(arguments.end(), {"--site", std::to_string(m.site)});
  else
    arguments.insert(arguments.end(), {"--place", std::to_string(m.place)});
  const auto door = stage_ != nullptr ? stage_->open_door(m.id()) : expected<stage::door>(stage::door{});
  if (!door) return try_again(m, door.error().message);
  arguments.insert(arguments.end(), door->arguments.begin(), door->arguments.end());
  auto child = process::start(arguments, log_of(m), door->kept);
  if (!child) return try_again(m, child.error().message);
  m.child = std::move(*child);
  if (m.disk_full > 0) m.child->allow_files_to_grow(false);
  if (++m.starts > 1) {
    ++memory_.restarts;
    event("restarted", fmt::format("{} (process {})", m.name, m.child->pid()));
    remember();
  }
}

/// A process that was killed cannot say so in the store; its launcher does.
void conductor::mark_down(const member& m) {
  if (!reader_ || m.site < 0) return;
  const auto sites = reader_->sites();
  if (!sites) return;
  for (auto row : *sites) {
    if (row.site != static_cast<site_id>(m.site)) continue;
    row.state = "down";
    row.tokens_per_second = 0;
    store_.put(row);
    store_.flush();
  }
}

void conductor::stop_all(const std::string& why) {
  if (stopping_) return;
  stopping_ = true;
  stop_deadline_ = clock_.now() + stop_patience;
  event("stopping", why);
  while (!lasting_.empty()) end_fault(lasting_.begin()->first);  // who is cut off or has no disk cannot end well
  for (auto& m : members_) {
    m.start_at.reset();
    if (m.child && m.site >= 0) {
      m.child->signal(SIGCONT);  // a stopped process hears nothing
      m.child->signal(SIGTERM);
    }
  }
}

void conductor::kill_all() {
  stopping_ = true;
  for (auto& m : members_) {
    m.child.reset();  // its destructor kills and waits
    m.over = true;
  }
}

void conductor::hear_signals() {
  signalfd_siginfo info{};
  while (::read(signals_, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGUSR1) {
      display_.line("SIGUSR1: every site writes a checkpoint and goes on");
      for (const auto& m : members_)
        if (m.child && m.site >= 0) m.child->signal(SIGUSR1);
    } else if (info.ssi_signo == SIGHUP) {
      display_.line("SIGHUP: logs are opened again");
      for (const auto& m : members_)
        if (m.child) m.child->signal(reopen_signal());
    } else if (++asked_to_stop_ == 1 && finished_at_) {
      display_.line("the run is finished; its last checkpoints are being written");
    } else if (asked_to_stop_ == 1) {
      display_.line("stopping: every site finishes its period and writes a checkpoint; again to stop at once");
      if (code_ == 0) code_ = exit_stopped;
      if (reason_.empty()) reason_ = "asked to stop";
      stop_all("asked to stop");
    } else {
      display_.line("stopped at once; the last checkpoints are kept");
      code_ = exit_interrupted;
      reason_ = "interrupted";
      kill_all();
    }
  }
}

void conductor::look() {
  if (!reader_)
    if (auto opened = run_store_reader::open(run_.path + "/" + run_store_name)) reader_ = std::move(*opened);
  if (!reader_) return;
  if (const auto events = reader_->events(last_event_))
    for (const auto& e : *events) {
      if (e.kind != "epoch")
        display_.line(event_line_text(e), event_text_column);  // the coordinator's decision says the same once for all sites
      if (e.kind == "leads") leader_ = e.who;
      last_event_ = e.number;
    }
  const auto view = read_view(*reader_, group_count(run_.plan));
  if (!view) {
    reader_.reset();
    return;
  }
  if (!stopping_ && !finished_at_) fire_faults(*view);
  display_.update(*view, to_seconds(clock_.now() - began_), clock_.wall_seconds(),
                  stopping_ ? "stopping: the last period and its checkpoint" : "");
}

/// Nobody is left to coordinate: they are given a moment to see that themselves, then asked, then killed.
void conductor::dismiss_coordinators(time_point now) {
  stopping_ = true;
  if (std::none_of(members_.begin(), members_.end(), [](const member& m) { return m.site < 0 && m.child; })) return;
  if (!dismiss_at_) dismiss_at_ = now + (asked_to_stop_ > 0 || code_ != 0 ? 1s : 5s);
  if (now < *dismiss_at_ || dismissed_) return;
  dismissed_ = true;
  dismiss_standing_by();
  stop_deadline_ = now + 10s;
}

/// Every coordinator that still runs is asked to end.
void conductor::dismiss_standing_by() {
  for (const auto& m : members_)
    if (m.site < 0 && m.child) {
      m.child->signal(SIGCONT);
      m.child->signal(SIGTERM);
    }
}

int conductor::conduct() {
  std::error_code error;
  std::filesystem::create_directories(run_.path + "/logs", error);
  if (auto store = run_store_reader::open(run_.path + "/" + run_store_name))
    if (const auto old = store->events())
      for (const auto& e : *old) last_event_ = e.number;
  put_run_row("running");
  log_at_start_ = log_bytes();
  for (auto& m : members_) start(m);
  auto next_look = clock_.now();
  auto next_row = clock_.now();
  while (!all_ended()) {
    pollfd wait{signals_, POLLIN, 0};
    ::poll(&wait, 1, 50);
    hear_signals();
    reap();
    const auto now = clock_.now();
    due(now);
    if (stage_ != nullptr) follow_scenario(now);
    end_stragglers(now);
    if (stop_deadline_ && now > *stop_deadline_) kill_all();
    if (sites_ended()) dismiss_coordinators(now);
    if (now >= next_look) {
      look();
      if (stage_ != nullptr && !finished_at_) look_at_processes();
      next_look = now + look_every;
    }
    if (now >= next_row) {
      put_run_row(stopping_ ? "stopping" : "running");
      next_row = now + 2s;
    }
  }
  look();
  display_.finish();
  const bool any_stopped =
      std::any_of(members_.begin(), members_.end(), [](const member& m) { return m.site >= 0 && m.code == exit_stopped; });
  const bool any_finished =
      std::any_of(members_.begin(), members_.end(), [](const member& m) { return m.site >= 0 && m.over && m.code == exit_ok; });
  if (code_ == 0 && any_stopped) code_ = exit_stopped;
  if (code_ == 0 && !any_finished) code_ = exit_failed;
  if (reason_.empty() && !lost_.empty()) reason_ = "without " + lost_text();
  put_run_row(code_ == 0 ? "finished" : code_ == exit_stopped || code_ == exit_interrupted ? "stopped" : "failed");
  remember();
  return code_;
}

}  // namespace isthmus::launcher
