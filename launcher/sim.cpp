#include "actors/sim/rehearsal.hpp"
#include "framework/core/hash.hpp"
#include "framework/core/rare.hpp"
#include "framework/metrics/terminal.hpp"
#include "launcher/recipes.hpp"
#include "launcher/run_folder.hpp"
#include "launcher/seed_workers.hpp"
#include "launcher/sim_real.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace isthmus::launcher {

namespace {

using nlohmann::json;

constexpr std::size_t failures_shown = 10;

struct seed_range {
  std::uint64_t first = 1, last = 1;
  std::uint64_t count() const { return last - first + 1; }
};

/// "7" or "1..10000".
std::optional<seed_range> read_seeds(std::string_view text) {
  const auto number = [](std::string_view digits, std::uint64_t& value) {
    const auto [stop, status] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return status == std::errc() && stop == digits.data() + digits.size() && value < INT64_MAX;
  };
  seed_range range;
  const auto dots = text.find("..");
  const auto last = dots == std::string_view::npos ? text : text.substr(dots + 2);
  if (!number(text.substr(0, dots), range.first) || !number(last, range.last) || range.last < range.first) return std::nullopt;
  return range;
}

std::string to_json(const actors::rehearsal_result& r) {
  json faults = json::object();
  for (const auto& [kind, n] : r.faults) faults[kind] = n;
  json rare = json::object();
  for (const auto& [site, n] : r.rare) rare[site] = n;
  return json{{"failure", r.failure},
              {"findings", r.findings},
              {"history", r.history.hex()},
              {"virtual_seconds", r.virtual_seconds},
              {"rounds", r.rounds},
              {"faults", faults},
              {"rare", rare},
              {"samples", r.ledger.assigned},
              {"returned", r.ledger.returned},
              {"written_off", r.ledger.written_off},
              {"records_void", r.ledger.records_void}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

struct failed_seed {
  std::uint64_t seed;
  std::string what;
};

/// Sums over all seeds.
struct tally {
  std::uint64_t seeds = 0, rounds = 0, samples = 0, returned = 0, written_off = 0, records_void = 0, faults_in_all = 0;
  double virtual_seconds = 0;
  std::map<std::string, std::uint64_t> faults, rare;
  std::vector<failed_seed> failed;
  std::map<std::uint64_t, std::string> histories;

  tally() {
    for (const char* kind : fault_kind_names) faults[kind] = 0;
    for (const rare_site* site : rare_site::all()) rare[site->name()] = 0;
  }

  void add(const seed_report& report) {
    ++seeds;
    if (!report.died.empty()) {
      failed.push_back({report.seed, "the simulation ended: " + report.died});
      return;
    }
    const json r = json::parse(report.answer);
    virtual_seconds += r.at("virtual_seconds").get<double>();
    rounds += r.at("rounds").get<std::uint64_t>();
    samples += r.at("samples").get<std::uint64_t>();
    returned += r.at("returned").get<std::uint64_t>();
    written_off += r.at("written_off").get<std::uint64_t>();
    records_void += r.at("records_void").get<std::uint64_t>();
    for (const auto& [kind, n] : r.at("faults").items()) {
      faults[kind] += n.get<std::uint64_t>();
      faults_in_all += n.get<std::uint64_t>();
    }
    for (const auto& [site, n] : r.at("rare").items()) rare[site] += n.get<std::uint64_t>();
    histories[report.seed] = r.at("history").get<std::string>();
    if (auto failure = r.at("failure").get<std::string>(); !failure.empty()) {
      for (const auto& finding : r.at("findings"))
        if (!failure.ends_with(finding.get<std::string>())) failure += "\n    " + finding.get<std::string>();
      failed.push_back({report.seed, std::move(failure)});
    }
  }
};

/// Of one run its own; of several, a hash of them in the order of their seeds: the same on every machine, however they were shared out.
std::string history_of(const tally& t) {
  if (t.histories.size() == 1) return t.histories.begin()->second;
  std::string all;
  for (const auto& [seed, history] : t.histories) all += fmt::format("{} {}\n", seed, history);
  return hash_bytes(std::as_bytes(std::span(all))).hex();
}

std::string overrides_text(const std::vector<std::string>& overrides) {
  std::string text;
  for (const auto& o : overrides) text += " " + shell_word(o);
  return text;
}

std::string replay_command(const sim_options& o, std::uint64_t seed) {
  return fmt::format("isthmus sim {} --seeds {}{}", shell_word(o.recipe), seed, overrides_text(o.overrides));
}

std::string summary(const tally& t, double seconds) {
  std::string text = fmt::format("{} in {}: {} good, {} failed\n", show_counted(static_cast<std::int64_t>(t.seeds), "seed"),
                                 show_duration(seconds), t.seeds - t.failed.size(), t.failed.size());
  text += fmt::format(
      "simulated {:.2f} hours, {:.0f} times as fast as real time; {} rounds, {} samples, {} of them trained again, {} written "
      "off; {} void records\n",
      t.virtual_seconds / 3600, t.virtual_seconds / seconds, t.rounds, t.samples, t.returned, t.written_off, t.records_void);
  text += fmt::format("faults {}", t.faults_in_all);
  std::string each, never;
  for (const auto& [kind, n] : t.faults) {
    if (n > 0)
      each += fmt::format("{}{} {}", each.empty() ? ": " : ", ", kind, n);
    else
      never += fmt::format("{}{}", never.empty() ? "; none of " : ", ", kind);
  }
  text += each + never + "\n";
  const auto hit = std::count_if(t.rare.begin(), t.rare.end(), [](const auto& site) { return site.second > 0; });
  text += fmt::format("rare sites hit {} of {}\n", hit, t.rare.size());
  if (t.seeds > 1)
    for (const auto& [site, n] : t.rare) text += fmt::format("  {:>8}  {}\n", n, site);
  return text;
}

json summary_json(const sim_options& o, const tally& t, double seconds) {
  json failed = json::array();
  for (const auto& f : t.failed) failed.push_back({{"seed", f.seed}, {"what", f.what}, {"replay", replay_command(o, f.seed)}});
  json faults = json::object();
  for (const auto& [kind, n] : t.faults) faults[kind] = n;
  json rare = json::array();
  for (const auto& [site, n] : t.rare) rare.push_back({{"site", site}, {"fired", n}});
  return {{"schema", 1},
          {"recipe", o.recipe},
          {"seeds", t.seeds},
          {"history", history_of(t)},
          {"failed", failed},
          {"seconds", seconds},
          {"virtual_seconds", t.virtual_seconds},
          {"rounds", t.rounds},
          {"samples", t.samples},
          {"returned", t.returned},
          {"written_off", t.written_off},
          {"records_void", t.records_void},
          {"faults", faults},
          {"rare", rare}};
}

/// Whole digits of progress on one line of the terminal.
class progress_line {
public:
  progress_line(console& out, std::uint64_t all) : out_(out), all_(all) {}
  void show(const tally& t, double seconds) {
    if (!out_.progress_is_terminal() || seconds < next_) return;
    next_ = seconds + 0.2;
    const double share = static_cast<double>(t.seeds) / static_cast<double>(all_);
    const double left = t.seeds > 0 ? seconds / share - seconds : -1;
    out_.progress(fmt::format("\r{} {}/{} seeds, {} failed, {:.0f}x real time, {} left \x1b[K", progress_bar(share, 24, out_.unicode()),
                              t.seeds, all_, t.failed.size(), t.virtual_seconds / seconds, show_duration(left)));
    shown_ = true;
  }
  void clear() {
    if (shown_) out_.progress("\r\x1b[K");
  }

private:
  console& out_;
  std::uint64_t all_;
  double next_ = 0;
  bool shown_ = false;
};

std::atomic<bool> interrupted = false;

/// What happens to the run of one seed, in order.
std::string story(const recipe& plan, std::uint64_t seed) {
  const recipe drawn = plan.scenario.draw_settings ? sim::draw_settings(plan, seed) : plan;
  std::string text;
  if (plan.scenario.draw_settings)
    text += fmt::format("codec {}, outer {}, {} steps a round, {} groups, quorum {}, checkpoint every {} rounds\n", drawn.round.codec,
                        drawn.round.outer, drawn.round.inner_steps, drawn.round.groups, drawn.round.quorum, drawn.checkpoint.every_rounds);
  for (const auto& fault : sim::plan_faults(drawn, seed)) text += "  " + sim::describe(fault) + "\n";
  return text;
}

/// The shortest scenario of that seed that still fails, as a recipe of its own.
int shrink_seed(const sim_options& o, const recipe& plan, std::uint64_t seed, console& out) {
  const recipe drawn = plan.scenario.draw_settings ? sim::draw_settings(plan, seed) : plan;
  const auto fails = [&](const std::vector<sim::planned_fault>& faults) {
    bool failed = false;
    seed_work one;
    one.first = one.last = seed;
    one.work = [&](std::uint64_t s) { return to_json(actors::rehearse(sim::with_faults(drawn, faults, s), faults, s)); };
    one.report = [&](const seed_report& r) { failed = !r.died.empty() || !json::parse(r.answer).at("failure").get<std::string>().empty(); };
    run_seeds(one);
    return failed;
  };
  const auto all = sim::plan_faults(drawn, seed);
  if (!fails(all)) return out.error(exit_usage, fmt::format("seed {} does not fail: there is nothing to shrink", seed));
  const auto fewer = actors::shrink(all, fails);
  std::ofstream file(o.shrink, std::ios::binary);
  file << fmt::format("# {} of {} faults of seed {} of {}, which are enough to fail: isthmus sim {}\n", fewer.size(), all.size(), seed,
                      o.recipe, shell_word(o.shrink))
       << write_recipe(sim::with_faults(drawn, fewer, seed));
  file.close();
  if (!file) return out.error(exit_environment, fmt::format("cannot write {}", o.shrink));
  out.answer(fmt::format("{}: {} of {} faults are enough\n", o.shrink, fewer.size(), all.size()));
  for (const auto& fault : fewer) out.answer("  " + sim::describe(fault) + "\n");
  return exit_ok;
}

/// Where the run of one seed is to be kept, with its recipe: the other verbs find a run by that.
expected<std::unique_ptr<storage>> folder_to_keep(const std::string& name, const recipe& plan) {
  auto folder = open_disk(name);
  if (!folder) return folder.failure();
  if (!(*folder)->list(".").empty()) return fail(errc::environment, name + " is not empty: --keep takes a new or empty folder");
  const auto text = write_recipe(plan);
  if (auto ok = (*folder)->write_synced(resolved_recipe_name, std::as_bytes(std::span(text))); !ok) return ok.failure();
  return folder;
}

void print(const sim_options& o, const recipe& plan, const seed_range& seeds, const tally& t, double seconds, console& out) {
  if (o.json) return out.answer(summary_json(o, t, seconds).dump(2, ' ', false, json::error_handler_t::replace) + "\n");
  if (seeds.count() == 1) out.answer(story(plan, seeds.first));
  out.answer(summary(t, seconds));
  if (!t.histories.empty()) out.answer(fmt::format("history {}\n", history_of(t)));
  const std::size_t shown = std::min(failures_shown, t.failed.size());
  for (const failed_seed& f : std::span(t.failed).first(shown))
    out.answer(fmt::format("FAILED seed {}: {}\n  replay: {}\n", f.seed, f.what, replay_command(o, f.seed)));
  if (t.failed.empty()) return;
  out.answer(fmt::format("{}the shortest scenario that still fails: {} --shrink FILE\n",
                         t.failed.size() > shown ? fmt::format("... and {} more; ", t.failed.size() - shown) : "",
                         replay_command(o, t.failed.front().seed)));
}

}  // namespace

int run_sim(const sim_options& o, console& out) {
  const auto plan = read_or_complain(o.recipe, o.overrides, out);
  if (!plan) return exit_recipe;
  const auto seeds = o.seeds.empty() ? seed_range{static_cast<std::uint64_t>(plan->run.seed), static_cast<std::uint64_t>(plan->run.seed)}
                                     : read_seeds(o.seeds).value_or(seed_range{1, 0});
  if (seeds.last < seeds.first)
    return out.error(exit_usage, fmt::format("--seeds \"{}\": a seed as in 17, or a range as in 1..1000", o.seeds));
  if (o.real) {
    if (seeds.count() > 1 || !o.shrink.empty() || !o.keep.empty() || o.events || o.jobs > 0)
      return out.error(exit_usage, "--real plays one seed, in a run folder: no --shrink, --keep, --events, --jobs");
    auto drawn = plan->scenario.draw_settings ? sim::draw_settings(*plan, seeds.first) : *plan;
    drawn.run.seed = static_cast<std::int64_t>(seeds.first);
    return run_sim_real(o, drawn, out);
  }
  if (!o.run_folder.empty()) return out.error(exit_usage, "--run-folder goes with --real; --keep writes a simulated run's files");
  if (!o.shrink.empty()) {
    if (seeds.count() > 1) return out.error(exit_usage, "--shrink goes with one seed");
    return shrink_seed(o, *plan, seeds.first, out);
  }
  if (!o.keep.empty() && seeds.count() > 1) return out.error(exit_usage, "--keep goes with one seed");
  std::unique_ptr<storage> kept;
  if (!o.keep.empty()) {
    auto folder = folder_to_keep(o.keep, *plan);
    if (!folder) return out.error(exit_environment, folder.error().message);
    kept = std::move(*folder);
  }
  const auto begun = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::max(1e-6, std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count()); };
  tally t;
  progress_line line(out, seeds.count());
  seed_work work;
  work.first = seeds.first;
  work.last = seeds.last;
  const auto cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  work.processes = static_cast<int>(std::min<std::uint64_t>(static_cast<std::uint64_t>(o.jobs > 0 ? o.jobs : cores), seeds.count()));
  actors::rehearsal_watcher watcher{{}, kept.get()};
  if (o.events && seeds.count() == 1) watcher.tell = [&out](const std::string& told) { out.progress(told + "\n"); };
  work.work = [&](std::uint64_t seed) { return to_json(actors::rehearse(*plan, seed, watcher)); };
  work.report = [&](const seed_report& report) {
    t.add(report);
    line.show(t, elapsed());
  };
  std::signal(SIGINT, [](int) { interrupted = true; });
  work.stopped = [] { return interrupted.load(); };
  run_seeds(work);
  line.clear();
  print(o, *plan, seeds, t, elapsed(), out);
  if (interrupted) return exit_interrupted;
  return t.failed.empty() ? exit_ok : exit_violated;
}

}  // namespace isthmus::launcher
