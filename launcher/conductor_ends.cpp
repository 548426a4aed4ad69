#include "launcher/conductor.hpp"

#include "launcher/site_disk.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <utility>

/// What follows when a process ends.
namespace isthmus::launcher {

namespace {

using namespace std::chrono_literals;
constexpr std::chrono::milliseconds first_back_off = 500ms, rehearsed_back_off = 1s;
constexpr auto straggler_patience = 10s;  // whoever counts has saved and said so before the run is finished

/// Ends that come again however often the process is started.
bool is_hopeless(const process_end& end) {
  return end.signal == 0 && (end.code == exit_usage || end.code == exit_recipe || end.code == exit_file || end.code == exit_refused);
}

}  // namespace

void conductor::give_up(int code, const std::string& why) {
  if (code_ == 0) {
    code_ = code;
    reason_ = why;
  }
  stop_all(why);
}

std::uintmax_t conductor::log_bytes() const {
  std::error_code missing;
  const auto bytes = std::filesystem::file_size(run_.path + "/coordinator.jsonl", missing);
  return missing ? 0 : bytes;
}

/// So many sites must be left, or no epoch can ever begin again (docs/rounds.md, section 4).
std::size_t conductor::sites_needed() const {
  const std::size_t all = run_.people.sites.size();
  const auto log = log_bytes();
  if (log == 0) return run_.plan.run.deterministic ? all : all / 2 + 1;  // the first epoch waits for a majority
  if (log == log_at_start_) return all;                                  // resumed: of the last epoch every member must come back
  return (all + 1) / 2;                                                  // so many seals end an epoch
}

/// It is not started again. The others go on without it where they can.
void conductor::lose(member& m, int code, const std::string& how) {
  m.over = true;
  event("given_up", fmt::format("{}: {}", m.name, how));
  const bool last = std::none_of(members_.begin(), members_.end(), [](const member& o) { return o.site < 0 && !o.over; });
  if (m.site < 0 && !last) return;  // another one leads
  if (m.site < 0) return give_up(code, fmt::format("{}: {}", m.name, how));
  lost_.push_back(fmt::format("{}: {}", m.name, how));
  const auto left =
      std::count_if(members_.begin(), members_.end(), [](const member& o) { return o.site >= 0 && (!o.over || o.code == exit_ok); });
  if (left == 0 || static_cast<std::size_t>(left) < sites_needed())
    give_up(code,
            left == 0 ? lost_text() : fmt::format("{}; {} of {} sites are too few to go on", lost_text(), left, run_.people.sites.size()));
}

std::string conductor::lost_text() const { return fmt::format("{}", fmt::join(lost_, "; ")); }

void conductor::try_again(member& m, const std::string& how) {
  if (m.taken_down > 0) return;  // it is started when that is over
  if (!m.budget.spend(clock_.now()))
    return lose(m, m.code == exit_environment ? exit_environment : exit_failed, how + "; it failed too often");
  m.start_at = clock_.now() + (stage_ != nullptr ? rehearsed_back_off : first_back_off * (1 << std::min(m.starts, 5)));
}

void conductor::on_end(member& m, const process_end& end) {
  m.child.reset();
  m.code = end.signal != 0 ? exit_failed : end.code;
  if (const int expected = std::exchange(m.expected_signal, 0);
      expected != 0 && (end.signal == expected || (expected == SIGTERM && end.signal == 0 && end.code == exit_stopped))) {
    if (std::exchange(m.disk_lost, false)) lose_disk(run_.path, m.id());
    return mark_down(m);  // it is started again when the fault is over
  }
  if (end.signal != 0 || (end.code != exit_ok && end.code != exit_stopped)) mark_down(m);
  const auto last = end.signal == SIGKILL ? "" : last_log_line(m);  // who is killed leaves no last word
  const auto how = last.empty() ? end.text() : fmt::format("{} ({})", end.text(), last);
  if (end.signal == 0 && end.code == exit_violated) {
    m.over = true;
    event("died", fmt::format("{}: {}", m.name, how));
    return give_up(exit_violated, fmt::format("{}: {}", m.name, how));
  }
  if (end.signal == 0 && end.code == exit_ok) {
    m.over = true;
    if (m.site < 0) {
      finished_at_ = clock_.now();
      dismiss_standing_by();
    }
    return;
  }
  if (stopping_ || finished_at_ || (end.signal == 0 && end.code == exit_stopped)) {
    m.over = true;
    return;
  }
  event("died", fmt::format("{}: {}", m.name, how));
  if (stage_ == nullptr && is_hopeless(end)) return lose(m, end.code, how);  // what a fault made of its disk, another start may mend
  try_again(m, how);
}

/// The run is finished without who was stopped or cut off at its end: there is nobody left that could tell it so.
void conductor::end_stragglers(time_point now) {
  if (!finished_at_ || now < *finished_at_ + straggler_patience) return;
  for (auto& m : members_) {
    if (m.site < 0 || !m.child || m.over) continue;
    m.over = true;
    const auto how = fmt::format("{}: had not ended {} s after the run was finished", m.name,
                                 std::chrono::duration_cast<std::chrono::seconds>(straggler_patience).count());
    event("given_up", how);
    lost_.push_back(how);
    m.child->signal(SIGKILL);
  }
}

void conductor::reap() {
  for (auto& m : members_)
    if (m.child)
      if (const auto end = m.child->ended()) on_end(m, *end);
}

bool conductor::sites_ended() const {
  return std::all_of(members_.begin(), members_.end(), [&](const member& m) { return m.site < 0 || (!m.child && (m.over || stopping_)); });
}

bool conductor::all_ended() const {
  return std::none_of(members_.begin(), members_.end(), [](const member& m) { return m.child.has_value(); }) && sites_ended();
}

}  // namespace isthmus::launcher
