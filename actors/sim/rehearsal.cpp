#include "actors/sim/rehearsal.hpp"

#include "actors/sim/cluster.hpp"
#include "actors/sim/fault_player.hpp"
#include "actors/sim/live_check.hpp"
#include "framework/core/exit_code.hpp"
#include "framework/core/rare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace isthmus::actors {

namespace {

using sim::planned_fault;

constexpr duration restart_delay = std::chrono::seconds(1);
constexpr duration recovery = std::chrono::seconds(20);  // before a site goes for good: two lost at once are no majority of three
constexpr int restarts_max = 40;                         // of one site over the whole run
constexpr std::uint64_t stays_down_stream = UINT64_MAX - 1;

/// Copies what is below a folder, or the file of that name.
void keep(const storage& from, storage& to, const std::string& path) {
  const auto names = from.list(path);
  for (const auto& name : names) keep(from, to, path.empty() ? name : path + "/" + name);
  if (!names.empty() || path.empty()) return;
  const auto bytes = from.read(path, SIZE_MAX);
  if (!bytes) throw std::runtime_error(bytes.error().message);
  if (const auto slash = path.rfind('/'); slash != std::string::npos)
    if (const auto made = to.make_folders(path.substr(0, slash)); !made) throw std::runtime_error(made.error().message);
  if (const auto written = to.write_synced(path, *bytes); !written) throw std::runtime_error(written.error().message);
}

/// One run under its faults. Faults are events of the simulated world; what a launcher would do is done here.
class rehearsal {
public:
  rehearsal(const recipe& plan, const std::vector<planned_fault>& faults, std::uint64_t seed, const rehearsal_watcher& watcher)
      : faults_(faults),
        watcher_(watcher),
        chances_(seed),
        cluster_(options_for(plan, seed)),
        draws_(seed, stays_down_stream, 0, draw::fault),
        hands_(cluster_, draws_) {
    result_.seed = seed;
    for (const auto& f : faults_)
      if (f.waits()) waiting_.push_back(&f);
  }

  rehearsal_result play() {
    cluster_.disk.on_append([this](const std::string& file, std::string_view text) { live_.written(file, text); });
    cluster_.start_all();
    const auto& scenario = cluster_.plan.scenario;
    for (const auto& f : faults_)
      if (!f.waits()) cluster_.world.at(cluster_.world.now() + f.at, [this, &f] { fire(f); });
    const auto over = [this] { return watch(); };
    if (!cluster_.run_until(over, from_seconds(scenario.fault_seconds))) {
      heal();
      if (!cluster_.run_until(over, from_seconds(scenario.heal_seconds))) fail("the healed run did not end in time");
    }
    judge();
    if (watcher_.keep != nullptr) keep(cluster_.run_folder(), *watcher_.keep, "");
    return std::move(result_);
  }

private:
  cluster_options options_for(const recipe& plan, std::uint64_t seed) {
    cluster_options options{.seed = seed, .plan = plan};
    options.after_update = [this](site_id site, incarnation_number, const optimizer_slice& s) { hands_.after_update(site, s); };
    if (watcher_.tell)
      options.on_event = [this](double at, const event_row& e) {
        watcher_.tell(fmt::format("{:10.3f}  {}  {}: {}", at, e.who, e.kind, e.text));
      };
    return options;
  }

  void say(const std::string& what) {
    cluster_.world.note(what);
    if (watcher_.tell) watcher_.tell(fmt::format("{:10.3f}  {}", to_seconds(cluster_.world.now().time_since_epoch()), what));
  }

  void fail(std::string what) {
    if (result_.failure.empty()) result_.failure = std::move(what);
  }

  /// After every event. True when there is nothing left to wait for.
  bool watch() {
    if (!live_.violation().empty()) {
      fail(live_.violation());
      return true;
    }
    for (std::size_t i = 0; i < waiting_.size();) {
      const planned_fault& f = *waiting_[i];
      if (!reached(f)) {
        ++i;
        continue;
      }
      waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
      fire(f);
    }
    for (site_id site = 0; site < cluster_.site_count(); ++site)
      if (!restart(site)) return true;
    if (!restart(coordinator_id)) return true;
    return ended();
  }

  bool reached(const planned_fault& f) const {
    return f.trigger.at_round > 0 ? cluster_.last_round() >= static_cast<round_number>(f.trigger.at_round)
                                  : cluster_.tokens() >= static_cast<std::uint64_t>(f.trigger.at_tokens);
  }

  /// Everybody that is left has ended well; who is down when the coordinator does has nobody left to come back to.
  bool ended() const {
    for (site_id site = 0; site < cluster_.site_count(); ++site)
      if (!gone_.contains(site) && cluster_.exit_code(site) != 0 && (cluster_.running(site) || !run_is_over())) return false;
    return true;
  }

  bool run_is_over() const { return cluster_.exit_code(coordinator_id) == 0; }

  /// Starts a process again that ended otherwise than well. False when that is hopeless.
  bool restart(site_id site) {
    const auto code = cluster_.exit_code(site);
    if (!code || *code == 0 || starting_.contains(site) || down_.contains(site) || gone_.contains(site)) return true;
    if (*code == exit_violated || ++restarts_[site] > restarts_max) {
      fail(fmt::format("{} ended with {}: {}", name(site), *code, cluster_.exit_reason(site)));
      return false;
    }
    starting_.insert(site);
    cluster_.world.after(restart_delay, [this, site] {
      starting_.erase(site);
      if (!down_.contains(site) && !gone_.contains(site)) start(site);
    });
    return true;
  }

  void start(site_id site) {
    if (run_is_over()) return;
    say("start of " + name(site));
    if (cluster_.running(site)) cluster_.kill_site(site);
    if (site == coordinator_id)
      cluster_.start_coordinator();
    else
      cluster_.start_site(site);
  }

  std::string name(site_id site) const { return site == coordinator_id ? "coordinator" : cluster_.plan.sites[site].name; }

  void heal() {
    healed_ = true;
    say("all is healed");
    chances_.rest();
    hands_.heal();
    if (cluster_.site_count() > 2 && draws_.uniform() < cluster_.plan.scenario.stays_down)
      cluster_.world.after(recovery, [this, site = static_cast<site_id>(draws_.below(cluster_.site_count()))] {
        if (!cluster_.running(site)) return;
        say(name(site) + " goes down for good");
        gone_.insert(site);
        cluster_.kill_site(site);
      });
  }

  void fire(const planned_fault& f) {
    if (healed_) return;
    ++result_.faults[name_of_fault(f.kind)];
    say("fault  " + sim::describe(f));
    if (takes_down(f.kind)) return take_down(f);
    if (f.kind == fault_kind::leave) return ask_to_leave(f);
    hands_.play(f);
  }

  void take_down(const planned_fault& f) {
    if (!cluster_.running(f.site)) return;
    cluster_.kill_site(f.site);
    if (f.kind == fault_kind::power)
      for (const auto& name : cluster::files_of(f.site)) cluster_.disk.crash(name, &draws_);
    if (f.kind == fault_kind::wipe) cluster_.wipe_site(f.site);
    ++down_[f.site];
    hands_.until(f.lasts, [this, site = f.site] { bring_up(site); });
  }
  void ask_to_leave(const planned_fault& f) {
    if (!cluster_.running(f.site)) return;
    ++down_[f.site];  // it ends by itself
    cluster_.drain_site(f.site);
    hands_.until(f.lasts, [this, site = f.site] { bring_up(site); });
  }
  void bring_up(site_id site) {
    if (--down_[site] > 0) return;
    down_.erase(site);
    if (!gone_.contains(site) && !cluster_.running(site) && cluster_.exit_code(site) != 0) start(site);
  }

  void judge() {
    result_.virtual_seconds = to_seconds(cluster_.world.now().time_since_epoch());
    result_.rounds = cluster_.last_round();
    result_.ledger = cluster_.ledgers();
    for (const auto& v : result_.ledger.violations) result_.findings.push_back(fmt::format("{} at {}: {}", v.rule, v.where, v.what));
    if (!result_.ledger.balanced()) fail("the ledgers do not balance: " + result_.findings.front());
    if (result_.ledger.divergences > 0)  // no fault of ours touches an anchor
      fail(fmt::format("{} anchors were not what their record names", result_.ledger.divergences));
    if (!result_.good())
      for (site_id site = 0; site < cluster_.site_count(); ++site)
        if (!gone_.contains(site) && cluster_.exit_code(site) != 0)
          result_.findings.push_back(fmt::format("{} is {}", name(site), cluster_.running(site) ? "still at work" : "not running"));
    result_.rare = chances_.fired();
    result_.history = cluster_.world.digest();
  }

  const std::vector<planned_fault>& faults_;
  const rehearsal_watcher& watcher_;
  live_check live_;
  rare_chances chances_;
  cluster cluster_;
  rng draws_;
  fault_player hands_;
  rehearsal_result result_;
  std::vector<const planned_fault*> waiting_;  // for a round or for tokens
  std::map<site_id, int> down_;                // taken down by so many faults
  std::map<site_id, int> restarts_;
  std::set<site_id> starting_, gone_;  // about to be started; never again
  bool healed_ = false;
};

}  // namespace

rehearsal_result rehearse(const recipe& plan, const std::vector<planned_fault>& faults, std::uint64_t seed,
                          const rehearsal_watcher& watcher) {
  return rehearsal(plan, faults, seed, watcher).play();
}

rehearsal_result rehearse(const recipe& plan, std::uint64_t seed, const rehearsal_watcher& watcher) {
  const recipe drawn = plan.scenario.draw_settings ? sim::draw_settings(plan, seed) : plan;
  return rehearse(drawn, sim::plan_faults(drawn, seed), seed, watcher);
}

std::vector<planned_fault> shrink(std::vector<planned_fault> faults, const std::function<bool(const std::vector<planned_fault>&)>& fails,
                                  int tries) {
  for (std::size_t part = std::max<std::size_t>(1, faults.size() / 2); tries > 0;) {
    bool shorter = false;
    for (std::size_t at = 0; at < faults.size() && tries > 0; --tries) {
      auto rest = faults;
      const auto first = rest.begin() + static_cast<std::ptrdiff_t>(at);
      rest.erase(first, first + static_cast<std::ptrdiff_t>(std::min(part, faults.size() - at)));
      if (fails(rest)) {
        faults = std::move(rest);
        shorter = true;
      } else {
        at += part;
      }
    }
    if (part == 1 && !shorter) break;
    if (!shorter) part /= 2;
  }
  return faults;
}

}  // namespace isthmus::actors
