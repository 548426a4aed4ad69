#include "launcher/view.hpp"

#include "framework/models/hybrid_model.hpp"
#include "launcher/run_folder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

namespace isthmus::launcher {

namespace {

constexpr double line_every_seconds = 10;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) out.push_back(line);
  return out;
}

}  // namespace

std::int64_t group_count(const recipe& plan) {
  return static_cast<std::int64_t>(cut_groups(hybrid_layout(plan.model), static_cast<std::uint32_t>(plan.round.groups)).size());
}

expected<run_view> read_view(const run_store_reader& store, std::int64_t groups) {
  run_view v;
  if (auto run = store.run()) v.run = std::move(*run);
  auto sites = store.sites();
  auto links = store.links();
  auto rounds = store.rounds();
  auto evaluations = store.evaluations();
  auto checkpoints = store.checkpoints();
  if (!sites) return sites.failure();
  if (!links) return links.failure();
  if (!rounds) return rounds.failure();
  if (!evaluations) return evaluations.failure();
  if (!checkpoints) return checkpoints.failure();
  v.sites = std::move(*sites);
  v.links = std::move(*links);
  v.evaluations = std::move(*evaluations);
  v.checkpoints = std::move(*checkpoints);
  std::map<group_id, round_number> last;
  for (const auto& r : *rounds) last[r.group] = std::max(last[r.group], r.round);
  if (!last.empty() && static_cast<std::int64_t>(last.size()) >= groups)
    v.committed = std::min_element(last.begin(), last.end(), [](const auto& a, const auto& b) { return a.second < b.second; })->second;
  double weight = 0;
  for (const auto& s : v.sites) {
    v.tokens += s.tokens;
    if (s.state != "training" || !std::isfinite(s.loss) || s.loss == 0) continue;
    v.loss += s.loss;
    weight += 1;
    v.tokens_per_second += s.tokens_per_second;
  }
  if (weight == 0)  // nobody trains: what was said last
    for (const auto& s : v.sites)
      if (std::isfinite(s.loss) && s.loss != 0) {
        v.loss += s.loss;
        weight += 1;
      }
  if (weight > 0) v.loss /= weight;
  return v;
}

std::string state_now(const run_row& run, const std::string& run_path) {
  const bool claims = is_live(run.state) || run.state == "preparing";
  if (!claims) return run.state.empty() ? "unknown" : run.state;
  return run_lock::is_held(run_path) ? run.state : "crashed";
}

bool is_live(const std::string& state) { return state == "running" || state == "stopping"; }

void mark_gone(run_view& view) {
  view.tokens_per_second = 0;
  for (auto& s : view.sites) {
    if (s.state == "training" || s.state == "starting") s.state = "gone";
    s.tokens_per_second = 0;
  }
  for (auto& l : view.links)
    if (l.state == "up") l.state = "gone";
}

std::string site_name(const recipe& plan, site_id site) {
  if (site == coordinator_id) return "coordinator";
  return site < plan.sites.size() ? plan.sites[site].name : std::to_string(site);
}

std::string event_line_text(const event_row& event) {
  return fmt::format("{}  {:<11} {:<10} {}", show_time_of_day(event.wall), event.who, event.kind, printable(event.text));
}

std::vector<std::string> progress_lines(const run_view& view, const recipe& plan, double elapsed, const eta_estimator& eta, int width,
                                        bool unicode) {
  const double share = static_cast<double>(view.tokens) / static_cast<double>(plan.run.tokens);
  std::string left;
  if (const auto range = eta.left(static_cast<double>(plan.run.tokens) - static_cast<double>(view.tokens)))
    left = fmt::format("  left {} ({} to {})", show_duration(range->middle), show_duration(range->low), show_duration(range->high));
  return {fmt::format("round {}  {} {:3.0f} %  {}{}", view.committed, progress_bar(share, std::clamp(width - 62, 10, 40), unicode),
                      100 * std::min(share, 1.0), show_duration(elapsed), left),
          fmt::format("loss {:.3f}  {} tokens/s  {} of {} tokens", view.loss, show_count(view.tokens_per_second),
                      show_count(static_cast<double>(view.tokens)), show_count(static_cast<double>(plan.run.tokens)))};
}

std::vector<std::string> site_lines(const run_view& view, const recipe& plan, double now) {
  std::vector<std::vector<std::string>> rows{{"site", "state", "start", "devices", "epoch", "round", "step", "loss", "tokens/s", "seen"}};
  for (const auto& s : view.sites)
    rows.push_back({site_name(plan, s.site), s.state, std::to_string(s.incarnation), fmt::format("{}/{}", s.devices, s.devices_wanted),
                    std::to_string(s.epoch), std::to_string(s.round), std::to_string(s.step),
                    s.loss == 0 ? "-" : fmt::format("{:.3f}", s.loss), show_count(s.tokens_per_second),
                    now > 0 ? show_duration(std::max(0.0, now - s.wall)) + " ago" : show_time_of_day(s.wall)});
  return lines_of(show_table(rows, {false, false, true, true, true, true, true, true, true, true}));
}

std::vector<std::string> link_lines(const run_view& view, const recipe& plan) {
  if (view.links.empty()) return {};
  auto links = view.links;
  std::stable_sort(links.begin(), links.end(), [](const auto& a, const auto& b) {  // the worst first
    return std::pair(a.state == "up", -a.round_trip_seconds) < std::pair(b.state == "up", -b.round_trip_seconds);
  });
  std::vector<std::vector<std::string>> rows{{"link", "state", "round trip", "sent", "received", "in flight", "breaks"}};
  for (const auto& l : links)
    rows.push_back({fmt::format("{} > {}", site_name(plan, l.site), site_name(plan, l.peer)), l.state,
                    fmt::format("{:.1f} ms", 1000 * l.round_trip_seconds), show_bytes(static_cast<double>(l.bytes_out)),
                    show_bytes(static_cast<double>(l.bytes_in)), show_bytes(static_cast<double>(l.in_flight)),
                    std::to_string(l.reconnects)});
  return lines_of(show_table(rows, {false, false, true, true, true, true, true}));
}

void live_display::erase() {
  if (drawn_ > 0) out_.progress(fmt::format("\x1b[{}A\r\x1b[J", drawn_));
  drawn_ = 0;
}

void live_display::line(const std::string& text, int hang) {
  erase();
  out_.progress((out_.progress_is_terminal() ? hanging(text, hang, out_.columns()) : text) + "\n");
}

void live_display::update(const run_view& view, double elapsed, double now, const std::string& note) {
  eta_.add(elapsed, static_cast<double>(view.tokens));
  if (!out_.progress_is_terminal()) {
    if (elapsed - last_line_ < line_every_seconds) return;
    last_line_ = elapsed;
    const auto left = eta_.left(static_cast<double>(plan_.run.tokens) - static_cast<double>(view.tokens));
    const auto up = std::count_if(view.sites.begin(), view.sites.end(), [](const site_row& s) { return s.state == "training"; });
    out_.progress(
        fmt::format("t={:.0f} round={} progress={:.3f} tokens={} loss={:.4f} tokens_per_second={:.0f} eta_s={} sites_training={}/{}{}\n",
                    elapsed, view.committed, std::min(1.0, static_cast<double>(view.tokens) / static_cast<double>(plan_.run.tokens)),
                    view.tokens, view.loss, view.tokens_per_second, left ? fmt::format("{:.0f}", left->middle) : "-", up,
                    plan_.sites.size(), note.empty() ? "" : fmt::format(" note=\"{}\"", note)));
    return;
  }
  erase();
  const int width = out_.columns();
  auto block = progress_lines(view, plan_, elapsed, eta_, width, out_.unicode());
  if (!note.empty()) block.push_back(note);
  for (const auto& text : site_lines(view, plan_, now)) block.push_back(text);
  for (const auto& text : link_lines(view, plan_)) block.push_back(text);
  if (const auto most = static_cast<std::size_t>(std::max(out_.rows() - 2, 2)); block.size() > most) block.resize(most);
  std::string all;
  for (const auto& text : block) all += fit_width(text, width - 1, out_.unicode()) + "\n";
  out_.progress(all);
  drawn_ = out_.quiet() ? 0 : static_cast<int>(block.size());
}

void live_display::finish() { drawn_ = 0; }

}  // namespace isthmus::launcher
