#include "framework/core/clock.hpp"
#include "launcher/run_folder.hpp"
#include "launcher/verbs.hpp"
#include "launcher/view.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <filesystem>

namespace isthmus::launcher {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

int code_of(const std::string& state) {
  return state == "running" || state == "finished" ? exit_ok : state == "failed" ? exit_failed : exit_stopped;
}

json as_json(const run_view& v, const recipe& plan, const std::string& path, const std::string& state,
             const std::vector<event_row>& events) {
  json sites = json::array(), links = json::array(), held_out = json::array(), checkpoints = json::array(), told = json::array();
  for (const auto& s : v.sites)
    sites.push_back({{"site", s.site},
                     {"name", site_name(plan, s.site)},
                     {"state", s.state},
                     {"incarnation", s.incarnation},
                     {"devices", s.devices},
                     {"epoch", s.epoch},
                     {"round", s.round},
                     {"step", s.step},
                     {"tokens", s.tokens},
                     {"loss", s.loss},
                     {"tokens_per_second", s.tokens_per_second},
                     {"wall", s.wall}});
  for (const auto& l : v.links)
    links.push_back({{"from", site_name(plan, l.site)},
                     {"to", site_name(plan, l.peer)},
                     {"state", l.state},
                     {"round_trip_seconds", l.round_trip_seconds},
                     {"bytes_out", l.bytes_out},
                     {"bytes_in", l.bytes_in},
                     {"payload_out", l.payload_out},
                     {"payload_in", l.payload_in},
                     {"reconnects", l.reconnects}});
  for (const auto& e : v.evaluations)
    held_out.push_back({{"site", site_name(plan, e.site)},
                        {"domain", e.domain},
                        {"round", e.round},
                        {"loss", e.loss},
                        {"unigram_entropy", e.unigram_entropy}});
  for (const auto& c : v.checkpoints)
    checkpoints.push_back({{"site", site_name(plan, c.site)},
                           {"round", c.round},
                           {"step", c.step},
                           {"folder", c.folder},
                           {"bytes", c.bytes},
                           {"seconds", c.seconds}});
  for (const auto& e : events) told.push_back({{"wall", e.wall}, {"who", e.who}, {"kind", e.kind}, {"text", e.text}});
  return {{"schema", 1},
          {"run", path},
          {"id", v.run.id},
          {"state", state},
          {"message", v.run.message},
          {"recipe_hash", v.run.recipe_hash},
          {"parameters", v.run.parameters},
          {"round", v.committed},
          {"planned_rounds", v.run.planned_rounds},
          {"tokens", v.tokens},
          {"planned_tokens", v.run.planned_tokens},
          {"loss", v.loss},
          {"tokens_per_second", v.tokens_per_second},
          {"trained_seconds", v.run.trained_seconds},
          {"faults_fired", v.run.faults_fired},
          {"restarts", v.run.restarts},
          {"sites", sites},
          {"links", links},
          {"held_out", held_out},
          {"checkpoints", checkpoints},
          {"events", told}};
}

int list_runs(const status_options& options, console& out) {
  if (auto ok = check_runs_root(); !ok) return out.error(ok.error());
  std::error_code error;
  std::vector<std::vector<std::string>> rows{{"run", "state", "round", "tokens", "loss", "trained"}};
  json all = json::array();
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(runs_root(), error))
    if (fs::exists(entry.path() / resolved_recipe_name, error)) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  for (const auto& folder : folders) {
    const auto store = run_store_reader::open((folder / run_store_name).string());
    const auto plan = load_recipe((folder / resolved_recipe_name).string());
    const auto view = store ? read_view(*store, plan ? group_count(*plan) : 1) : expected<run_view>(store.failure());
    if (!view) {
      rows.push_back({folder.string(), "no store", "-", "-", "-", "-"});
      all.push_back({{"run", folder.string()}, {"state", "no store"}});
      continue;
    }
    const auto state = state_now(view->run, folder.string());
    rows.push_back({folder.string(), state, std::to_string(view->committed), show_count(static_cast<double>(view->tokens)),
                    fmt::format("{:.3f}", view->loss), show_duration(view->run.trained_seconds)});
    all.push_back({{"run", folder.string()}, {"state", state}, {"round", view->committed}, {"tokens", view->tokens}, {"loss", view->loss}});
  }
  if (options.json)
    out.answer(json{{"schema", 1}, {"runs", all}}.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
  else
    out.answer(rows.size() == 1 ? fmt::format("no runs in {}/\n", runs_root()) : show_table(rows, {false, false, true, true, true, true}));
  return exit_ok;
}

}  // namespace

int run_status(const status_options& options, console& out) {
  if (options.run.empty()) return list_runs(options, out);
  const auto path = find_run(options.run);
  if (!path) return out.error(path.error());
  const auto run = open_run_folder(*path);
  if (!run) return out.error(run.error());
  const auto store = run_store_reader::open(*path + "/" + run_store_name);
  if (!store) return out.error(store.error());
  auto view = read_view(*store, group_count(run->plan));
  if (!view) return out.error(view.error());
  auto events = store->events();
  if (!events) return out.error(events.error());
  const auto state = state_now(view->run, *path);
  const bool live = is_live(state);
  if (!live) mark_gone(*view);
  if (options.json) {
    out.answer(as_json(*view, run->plan, *path, state, *events).dump(2, ' ', false, json::error_handler_t::replace) + "\n");
    return code_of(state);
  }
  out.answer(fmt::format("{}  {}{}  (from {})\n", view->run.id, state, view->run.message.empty() ? "" : ": " + printable(view->run.message),
                         run_store_name));
  eta_estimator none;
  for (const auto& line : progress_lines(*view, run->plan, view->run.trained_seconds, none, out.columns(), out.unicode()))
    out.answer(line + "\n");
  out.answer("\n");
  for (const auto& line : site_lines(*view, run->plan, live ? real_clock().wall_seconds() : 0)) out.answer(line + "\n");
  out.answer("\n");
  for (const auto& line : link_lines(*view, run->plan)) out.answer(line + "\n");
  if (events->size() > 10) events->erase(events->begin(), events->end() - 10);
  out.answer(events->empty() ? "" : "\nlast events\n");
  for (const auto& e : *events)
    out.answer((out.answer_is_terminal() ? hanging(event_line_text(e), event_text_column, out.columns()) : event_line_text(e)) + "\n");
  if (state == "crashed" || state == "stopped") out.answer(fmt::format("\ngo on: isthmus resume {}\n", shell_word(*path)));
  return code_of(state);
}

}  // namespace isthmus::launcher
