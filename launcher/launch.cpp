#include "launcher/launch.hpp"

#include "actors/incarnation.hpp"
#include "framework/metrics/terminal.hpp"
#include "framework/models/hybrid_model.hpp"
#include "launcher/conductor.hpp"
#include "launcher/data_step.hpp"
#include "launcher/forecast.hpp"
#include "launcher/keys.hpp"
#include "launcher/recipes.hpp"
#include "launcher/memory.hpp"
#include "launcher/report.hpp"
#include "launcher/resume_check.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <sstream>

namespace isthmus::launcher {

void show_header(const run_folder& run, console& out) {
  const auto& plan = run.plan;
  const auto parameters = static_cast<double>(hybrid_layout(plan.model).parameter_count());
  std::string sites;
  for (const auto& s : plan.sites)
    sites += fmt::format("{}{} ({} of {})", sites.empty() ? "" : ", ", s.name, show_counted(s.devices, "device"),
                         show_counted(s.threads_per_device, "thread"));
  out.progress(fmt::format("{}  recipe {}\n", out.bold(run.people.run_id), run.people.recipe_hash));
  out.progress(fmt::format("  model   {} parameters in {} layers, {} of memory a site for weights, gradients, moments and rounds\n",
                           show_count(parameters), plan.model.layers.size(), show_bytes(memory_of_site(plan))));
  out.progress(fmt::format("  plan    {} tokens: about {} x {} x {} tokens x {}; codec {}\n",
                           show_count(static_cast<double>(plan.run.tokens)), show_counted(planned_rounds(plan), "round"),
                           show_counted(plan.round.inner_steps, "step"), plan.train.tokens_per_step,
                           show_counted(static_cast<std::int64_t>(plan.sites.size()), "site"), plan.round.codec));
  out.progress(fmt::format("  sites   {}\n  folder  {}\n", sites, run.path));
}

namespace {

/// What a launcher that was killed could not write down itself: its row in the store is at most two seconds old.
void recover_times(const run_folder& run, launch_memory& memory) {
  const auto store = run_store_reader::open(run.path + "/" + run_store_name);
  if (!store) return;
  const auto row = store->run();
  if (!row || row->id != run.people.run_id) return;
  memory.trained_seconds = std::max(memory.trained_seconds, row->trained_seconds);
  memory.restarts = std::max(memory.restarts, row->restarts);
}

/// In a new run every process starts as incarnation 1; where one has no number later, its disk was lost.
expected<void> prepare_incarnations(const run_folder& run) {
  auto disk = open_disk(run.path);
  if (!disk) return disk.failure();
  if ((*disk)->exists("coordinator.jsonl")) return {};
  if (auto ok = actors::expect_first_start(**disk, actors::own_folder(coordinator_id)); !ok) return ok;
  for (const auto& site : run.people.sites)
    if (auto ok = actors::expect_first_start(**disk, actors::own_folder(site.id)); !ok) return ok;
  return {};
}

/// Gives every process its address and key and drives the run to its end.
int drive(run_folder& run, console& out) {
  const auto addresses = pick_addresses(run.plan);
  if (!addresses) return out.error(addresses.error());
  if (const auto ok = give_addresses(run, *addresses); !ok) return out.error(ok.error());
  auto memory = read_memory(run.path);
  if (!memory) return out.error(memory.error());
  recover_times(run, *memory);
  std::string reason;
  std::vector<std::string> lost;
  int code = exit_failed;
  {
    conductor lead(run, *memory, out);
    code = lead.conduct();
    reason = lead.reason();
    lost = lead.lost();
  }
  const bool went_on = code == exit_ok || code == exit_stopped || code == exit_interrupted;
  code = show_end_card(run, code, reason, out);
  for (const auto& site : lost)
    out.warn(fmt::format("a site was given up{}: {}", went_on ? " and the run went on without it" : "", printable(site)));
  return code;
}

/// Real processes are killed and stopped; what a link or a disk suffers happens in simulation only.
expected<void> check_faults(const recipe& plan) {
  for (std::size_t i = 0; i < plan.faults.size(); ++i)
    if (const auto& kind = plan.faults[i].kind; !is_rehearsed_for_real(kind_of_fault(kind)))
      return fail(errc::recipe_invalid,
                  fmt::format("faults.{}.kind = \"{}\": launch rehearses kill, stop and device; `isthmus sim` plays all of them", i, kind));
  return {};
}

/// Prepares the text in a thread of its own, so that this one hears signals. Asked to stop it ends the process: nothing was trained, and
/// the run folder goes away again.
expected<std::vector<site_data>> prepare_unless_asked_to_stop(const run_folder& run, const sigset_t& signals, console& out) {
  auto prepared = std::async(std::launch::async, [&] { return prepare_cached_data(run.plan); });
  while (prepared.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    const timespec wait{0, 50'000'000};
    const int heard = ::sigtimedwait(&signals, nullptr, &wait);
    if (heard != SIGINT && heard != SIGTERM) continue;  // nobody is there yet who could save, or has a log
    std::error_code ignored;
    std::filesystem::remove_all(run.path, ignored);
    out.progress("stopped while text was being prepared: nothing was trained, and no run is left; launch it anew\n");
    std::_Exit(exit_stopped);  // the thread is in the middle of it; the cache bears that
  }
  return prepared.get();
}

int show_forecast(const recipe& plan, console& out) {
  const auto sites = forecast_memory(plan);
  double all = 0;
  out.answer(fmt::format("model   {} parameters in {} layers\n",
                         show_count(static_cast<double>(hybrid_layout(plan.model).parameter_count())), plan.model.layers.size()));
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const auto& s = sites[i];
    out.answer(fmt::format("{:7} {} at its peak: training {}, rounds {}, program {}\n", plan.sites[i].name, show_bytes(s.total()),
                           show_bytes(s.training), show_bytes(s.rounds), show_bytes(s.process)));
    all += s.total();
  }
  const auto here = look_at_memory();
  out.answer(fmt::format("all     {} for {}; this machine has {} free of {}\n", show_bytes(all),
                         show_counted(static_cast<std::int64_t>(sites.size()), "site"), show_bytes(here.available),
                         show_bytes(here.total)));
  return exit_ok;
}

}  // namespace

int prepare_text(run_folder& run, const sigset_t& signals, console& out) {
  out.progress("preparing text\n");
  const auto prepared = prepare_unless_asked_to_stop(run, signals, out);
  const auto ready = prepared ? put_into_run(*prepared, run, out) : expected<void>(prepared.failure());
  if (ready) return exit_ok;
  std::error_code ignored;
  std::filesystem::remove_all(run.path, ignored);  // made a moment ago, and nothing was trained
  return out.error(ready.error());
}

expected<void> give_addresses(run_folder& run, const std::map<site_id, std::string>& addresses) {
  run.people.coordinators.clear();
  std::istringstream all(addresses.at(coordinator_id));
  for (std::string one; std::getline(all, one, ',');) run.people.coordinators.push_back(one);
  for (auto& site : run.people.sites) site.address = addresses.at(site.id);
  if (auto ok = prepare_keys(run); !ok) return ok;
  if (auto ok = prepare_incarnations(run); !ok) return ok;
  if (const auto ok = write_roster(run.path, run.people); !ok) return fail(errc::environment, ok.error().message);
  return {};
}

int run_launch(const launch_options& options, console& out) {
  const auto plan = read_or_complain(options.recipe, options.overrides, out);
  if (!plan) return exit_recipe;
  if (const auto ok = check(plan->model); !ok) return out.error(exit_recipe, ok.error().message);
  if (const auto ok = check_faults(*plan); !ok) return out.error(ok.error());
  if (const auto ok = check_fixed_addresses(*plan, std::chrono::milliseconds(0)); !ok) return out.error(ok.error());
  if (const auto ok = check_etcd(*plan); !ok) return out.error(ok.error());
  if (const auto ok = pick_addresses(*plan); !ok) return out.error(ok.error());  // before minutes of preparing text
  if (const auto ok = check_memory(*plan); !ok) return out.error(ok.error());
  const auto path = recipe_path(options.recipe);
  if (const auto problem = activation_problem(read_recipe_file(path, options.overrides), path))
    return out.error(exit_recipe, show_problems({*problem}));
  if (options.dry_run) return show_forecast(*plan, out);
  const auto signals = hold_signals();
  auto run = make_run_folder(*plan, options.run_folder);
  if (!run) return out.error(run.error());
  const auto lock = run_lock::take(run->path);
  if (!lock) return out.error(lock.error());
  show_header(*run, out);
  if (const int code = prepare_text(*run, signals, out); code != exit_ok) return code;
  return drive(*run, out);
}

int run_resume(const resume_options& options, console& out) {
  const auto path = find_run(options.run);
  if (!path) return out.error(path.error());
  const auto lock = run_lock::take(*path);
  if (!lock) return out.error(lock.error());
  auto run = open_run_folder(*path);
  if (!run) return out.error(run.error());
  if (set_aside_when_damaged(*path + "/" + run_store_name))
    out.warn("the run store was damaged; it is kept aside and a new one begun (nothing else depends on it)");
  if (const auto ok = check_resumable(*run); !ok) return out.error(ok.error());
  if (const auto store = run_store_reader::open(*path + "/" + run_store_name))
    if (const auto row = store->run(); row && row->state == "finished") {
      out.progress(fmt::format("{} has finished already\n", *path));
      return show_end_card(*run, exit_ok, "", out);
    }
  if (const auto ok = check_fixed_addresses(run->plan, std::chrono::seconds(10)); !ok) return out.error(ok.error());
  if (const auto ok = check_etcd(run->plan); !ok) return out.error(ok.error());
  if (const auto ok = check_memory(run->plan); !ok) return out.error(ok.error());
  show_header(*run, out);
  return drive(*run, out);
}

}  // namespace isthmus::launcher
