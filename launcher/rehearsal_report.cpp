#include "launcher/rehearsal_report.hpp"

#include "framework/metrics/terminal.hpp"
#include "framework/rounds/file_log.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace isthmus::launcher {

namespace {

constexpr double settle_seconds = 5;  // after a start, and before an end: what a process holds then is no measure
constexpr double end_window_seconds = 20;

/// An epoch with the moment at which it was told.
struct told_epoch {
  epoch_view view;
  double wall = 0;
  bool has(site_id site) const {
    return std::any_of(view.members.begin(), view.members.end(), [&](const epoch_member& m) { return m.site == site; });
  }
};

/// What a run left behind, read once.
struct run_history {
  std::vector<told_epoch> epochs;
  std::vector<round_row> rounds;  // by wall
  std::vector<event_row> events;
  std::vector<evaluation_row> evaluations;
};

run_history read_history(const run_folder& run, const storage& disk) {
  run_history h;
  const auto store = run_store_reader::open(run.path + "/" + run_store_name);
  if (!store) return h;
  if (auto rounds = store->rounds()) h.rounds = std::move(*rounds);
  std::sort(h.rounds.begin(), h.rounds.end(), [](const round_row& a, const round_row& b) { return a.wall < b.wall; });
  if (auto events = store->events()) h.events = std::move(*events);
  if (auto evaluations = store->evaluations()) h.evaluations = std::move(*evaluations);
  const auto log = file_log::read(disk, "coordinator.jsonl");
  if (!log) return h;
  for (const auto& entry : *log) {
    if (entry.end) continue;
    const auto words = fmt::format("epoch {} of ", entry.view.number);
    const auto told = std::find_if(h.events.begin(), h.events.end(),
                                   [&](const event_row& e) { return e.kind == "decision" && e.text.starts_with(words); });
    if (told != h.events.end()) h.epochs.push_back({entry.view, told->wall});
  }
  return h;
}

bool counts(const round_row& row, site_id site) {
  return ("," + row.contributors + ",").find(fmt::format(",{},", site)) != std::string::npos;
}

/// Wall time at which every group had a round of that epoch or a later one, after `after`.
std::optional<double> next_commit(const run_history& h, double after, epoch_number epoch, std::size_t groups) {
  std::set<group_id> have;
  for (const auto& row : h.rounds)
    if (row.wall > after && row.epoch >= epoch && have.insert(row.group).second && have.size() == groups) return row.wall;
  return std::nullopt;
}

fault_outcome outcome_of(const played_fault& played, const run_history& h, std::size_t groups, std::size_t sites) {
  fault_outcome out{played, {}, {}, {}, {}};
  const double began = played.began;
  const auto site = played.fault.site;
  if (site == coordinator_id) {
    std::map<std::string, double> linked;
    for (const auto& e : h.events)
      if (e.kind == "link_up" && e.wall > began && e.text == "link to the coordinator") linked.try_emplace(e.who, e.wall);
    if (linked.size() == sites)
      out.led =
          std::max_element(linked.begin(), linked.end(), [](const auto& a, const auto& b) { return a.second < b.second; })->second - began;
  }
  const auto without = std::find_if(h.epochs.begin(), h.epochs.end(), [&](const told_epoch& e) { return e.wall > began && !e.has(site); });
  // Who comes back before it was missed by an epoch was not excluded by this fault.
  const bool excluded = site != coordinator_id && without != h.epochs.end() && without->wall < played.ended + settle_seconds;
  if (excluded) out.excluded = without->wall - began;
  if (const auto wall = next_commit(h, began, excluded ? without->view.number : 0, groups)) out.commit = *wall - began;
  if (excluded)
    for (const auto& row : h.rounds)
      if (row.wall > std::max(played.ended, without->wall) && counts(row, site)) {
        out.back = row.wall - played.ended;
        break;
      }
  return out;
}

bool hits(const sim::planned_fault& f, site_id site) {
  return f.site == site ||
         (is_of_links(f.kind) && f.trigger.peer != "all" && std::find(f.peers.begin(), f.peers.end(), site) != f.peers.end());
}

/// Seconds within [from, to] in which some fault of the site lasted.
double seconds_hurt(const std::vector<played_fault>& played, site_id site, double from, double to) {
  std::vector<std::pair<double, double>> spans;
  for (const auto& p : played)
    if (hits(p.fault, site)) spans.emplace_back(std::max(from, p.began), std::min(to, p.ended));
  std::sort(spans.begin(), spans.end());
  double sum = 0, reached = from;
  for (const auto& [begin, end] : spans) {
    sum += std::max(0.0, end - std::max(begin, reached));
    reached = std::max(reached, end);
  }
  return sum;
}

std::optional<double> last_loss(const std::vector<evaluation_row>& all) {
  std::map<site_id, evaluation_row> last;
  for (const auto& e : all) last[e.site] = e;
  double sum = 0, tokens = 0;
  for (const auto& [site, e] : last) {
    sum += e.loss * static_cast<double>(e.tokens);
    tokens += static_cast<double>(e.tokens);
  }
  if (tokens == 0) return std::nullopt;
  return sum / tokens;
}

void judge(rehearsal_report& r, const conductor& lead, int code) {
  if (code != exit_ok)
    r.broken.push_back(fmt::format("the run ended with {}{}{}", code, lead.reason().empty() ? "" : ": ", printable(lead.reason())));
  for (const auto& site : lead.lost()) r.broken.push_back("a site was given up: " + printable(site));
  for (const auto& v : r.ledger.violations) r.broken.push_back(fmt::format("{} at {}: {}", v.rule, v.where, v.what));
  if (r.broken.empty() && !r.ledger.complete) r.broken.push_back("the run is not finished");
}

}  // namespace

rehearsal_report report_rehearsal(const run_folder& run, const conductor& lead, int code) {
  rehearsal_report r;
  const auto disk = open_disk(run.path);
  const auto ledger = disk ? check_ledgers(**disk) : expected<ledger_report>(disk.failure());
  if (!ledger) {
    r.broken.push_back(ledger.error().message);
    return r;
  }
  r.ledger = *ledger;
  judge(r, lead, code);
  const auto history = read_history(run, **disk);
  r.committed_tokens = (r.ledger.committed + r.ledger.partial) * static_cast<std::uint64_t>(run.plan.train.context);
  r.held_out_loss = last_loss(history.evaluations);
  if (history.epochs.empty() || history.rounds.empty()) return r;
  r.began = history.epochs.front().wall;
  r.ended = history.rounds.back().wall;
  bool paced = true;
  for (site_id site = 0; site < run.plan.sites.size(); ++site) {
    r.hurt_seconds.push_back(seconds_hurt(lead.played(), site, r.began, r.ended));
    if (run.plan.sites[site].spare) continue;  // its capacity is that of the sites that it stands in for
    const double pace = run.plan.sites[site].tokens_per_second;
    paced = paced && pace > 0;
    r.capacity_tokens += pace * (r.ended - r.began - r.hurt_seconds.back());
  }
  if (!paced) r.capacity_tokens = 0;
  for (const auto& played : lead.played())
    r.faults.push_back(outcome_of(played, history, r.ledger.last_round.size(), run.plan.sites.size()));
  const double first_fault = lead.played().empty() ? r.ended : lead.played().front().began;
  for (const auto& [name, uses] : lead.uses()) {
    const auto begin = median_use(uses, r.began + settle_seconds, std::max(first_fault, r.began + settle_seconds));
    const auto end = median_use(uses, r.ended - end_window_seconds, r.ended);
    if (begin && end) r.processes.push_back({name, *begin, *end});
  }
  return r;
}

std::string report_text(const rehearsal_report& r) {
  const auto seconds = [](const std::optional<double>& s) { return s ? fmt::format("{:.2f} s", *s) : std::string("-"); };
  std::string text;
  if (!r.faults.empty()) {
    std::vector<std::vector<std::string>> rows{{"fault", "excluded", "next commit", "new coordinator", "back"}};
    for (const auto& f : r.faults)
      rows.push_back({sim::describe(f.played.fault), seconds(f.excluded), seconds(f.commit), seconds(f.led), seconds(f.back)});
    text += show_table(rows, {false, true, true, true, true}) + "\n";
  }
  if (!r.processes.empty()) {
    std::vector<std::vector<std::string>> rows{{"process", "resident KiB", "descriptors", "threads"}};
    const auto change = [](std::int64_t a, std::int64_t b) { return fmt::format("{} -> {}", a, b); };
    for (const auto& p : r.processes)
      rows.push_back({p.name, change(p.begin.resident_kib, p.end.resident_kib), change(p.begin.descriptors, p.end.descriptors),
                      change(p.begin.threads, p.end.threads)});
    text += show_table(rows, {false, true, true, true}) + "\n";
  }
  text += fmt::format("committed {} tokens in {:.1f} s", r.committed_tokens, r.ended - r.began);
  if (r.capacity_tokens > 0) text += fmt::format("; capacity {:.0f}: {:.1f} %", r.capacity_tokens, 100 * r.goodput());
  if (r.held_out_loss) text += fmt::format("; held-out loss {:.4f}", *r.held_out_loss);
  return text + "\n";
}

nlohmann::json report_json(const rehearsal_report& r) {
  using nlohmann::json;
  const auto maybe = [](const std::optional<double>& s) { return s ? json(*s) : json(nullptr); };
  json faults = json::array(), processes = json::array();
  for (const auto& f : r.faults)
    faults.push_back({{"kind", f.played.fault.trigger.kind},
                      {"site", f.played.fault.trigger.site},
                      {"peer", is_of_links(f.played.fault.kind) ? json(f.played.fault.trigger.peer) : json(nullptr)},
                      {"at_seconds", f.played.began - r.began},
                      {"lasted_seconds", f.played.ended - f.played.began},
                      {"excluded_seconds", maybe(f.excluded)},
                      {"commit_seconds", maybe(f.commit)},
                      {"led_seconds", maybe(f.led)},
                      {"back_seconds", maybe(f.back)}});
  const auto use = [](const process_use& u) {
    return json{{"resident_kib", u.resident_kib}, {"descriptors", u.descriptors}, {"threads", u.threads}};
  };
  for (const auto& p : r.processes) processes.push_back({{"name", p.name}, {"begin", use(p.begin)}, {"end", use(p.end)}});
  return {{"kept", r.broken.empty()},
          {"broken", r.broken},
          {"seconds", r.ended - r.began},
          {"committed_tokens", r.committed_tokens},
          {"capacity_tokens", r.capacity_tokens},
          {"goodput", r.goodput()},
          {"hurt_seconds", r.hurt_seconds},
          {"held_out_loss", maybe(r.held_out_loss)},
          {"rounds", r.ledger.rounds},
          {"epochs", r.ledger.epochs},
          {"samples", r.ledger.assigned},
          {"returned", r.ledger.returned},
          {"written_off", r.ledger.written_off},
          {"records_void", r.ledger.records_void},
          {"faults", faults},
          {"processes", processes}};
}

}  // namespace isthmus::launcher
