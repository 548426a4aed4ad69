#include "framework/metrics/terminal.hpp"
#include "launcher/ledger_verdict.hpp"
#include "launcher/run_folder.hpp"
#include "launcher/verbs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <filesystem>

namespace isthmus::launcher {

namespace {

double median_of(const audit_tally& tally) { return tally.cosines[tally.cosines.size() / 2]; }

}  // namespace

std::string ledger_text(const ledger_report& r) {
  std::string out = fmt::format("samples  assigned {} = committed {} + partial {} + returned {} + written off {} + outstanding {}\n",
                                r.assigned, r.committed, r.partial, r.returned, r.written_off, r.outstanding);
  out += fmt::format("rounds   {} in {} epochs, {} void records; {} checkpoints; {} lines read, {} torn\n", r.rounds, r.epochs,
                     r.records_void, r.checkpoints, r.lines, r.torn_lines);
  if (r.divergences > 0)
    out += fmt::format("diverged {} that were not what their record names, and were copied again\n",
                       show_counted(static_cast<std::int64_t>(r.divergences), "anchor"));
  if (r.vetoes > 0)
    out += fmt::format("vetoed   {} that were no finite numbers\n", show_counted(static_cast<std::int64_t>(r.vetoes), "contribution"));
  if (r.vetoed > 0 || r.clipped > 0)
    out += fmt::format("guarded  {} vetoed by homes, {} taken in part; why is in the records\n",
                       show_counted(static_cast<std::int64_t>(r.vetoed), "contribution"), r.clipped);
  if (r.audits_made() > 0)
    out += fmt::format("audited  {} trained again, {} of which were not what their samples make ({:.1f} %)\n",
                       show_counted(static_cast<std::int64_t>(r.audits_made()), "contribution"), r.audits_failed(),
                       100 * static_cast<double>(r.audits_failed()) / static_cast<double>(r.audits_made()));
  for (const auto& [site, tally] : r.audits)
    out += fmt::format("         site {}: {} of {} failed; cosines {:.3f} to {:.3f}, median {:.3f}\n", site, tally.failed,
                       tally.cosines.size(), tally.cosines.front(), tally.cosines.back(), median_of(tally));
  for (const auto& [group, round] : r.last_round) {
    const auto anchor = r.last_anchor.find(group);
    out += fmt::format("group {}  round {}  anchor {}\n", group, round, anchor == r.last_anchor.end() ? "-" : anchor->second.hex());
  }
  if (r.lost_logs > 0)
    out += fmt::format("lost     {} of members of epochs; {} in no log that is left\n",
                       show_counted(static_cast<std::int64_t>(r.lost_logs), "log"),
                       show_counted(static_cast<std::int64_t>(r.unproved_rounds), "round"));
  for (const auto& v : r.violations) out += fmt::format("VIOLATED {} at {}: {}\n", v.rule, v.where, v.what);
  if (!r.balanced())
    return out + fmt::format("NOT balanced: {}\n", show_counted(static_cast<std::int64_t>(r.violations.size()), "violation"));
  return out + fmt::format("balanced{}{}\n", r.lost_logs > 0 ? ", as far as the logs that are left can tell" : "",
                           r.complete ? ", and the run is finished" : "; the run is not finished, so positions may be outstanding");
}

namespace {

/// A folder that cannot be listed looks empty to a storage.
expected<void> check_readable(const std::string& path) {
  std::error_code failed;
  std::filesystem::directory_iterator(path, failed);
  if (!failed || failed == std::errc::no_such_file_or_directory) return {};
  return fail(errc::environment, fmt::format("cannot read {}: {}", path, failed.message()));
}

}  // namespace

int run_ledger(const ledger_options& options, console& out) {
  const auto path = find_run(options.run);
  if (!path) return out.error(path.error());
  auto disk = open_disk(*path);
  if (!disk) return out.error(disk.error());
  if (const auto ok = check_readable(*path + "/ledger"); !ok) return out.error(ok.error());
  const bool running = run_lock::is_held(*path);
  const auto report = running ? check_growing_ledgers(**disk) : check_ledgers(**disk);
  if (!report) return out.error(report.error());
  const auto& r = *report;
  if (options.json) {
    nlohmann::json answer{{"schema", 1},
                          {"run", *path},
                          {"balanced", r.balanced()},
                          {"complete", r.complete},
                          {"running", running},
                          {"assigned", r.assigned},
                          {"committed", r.committed},
                          {"partial", r.partial},
                          {"returned", r.returned},
                          {"written_off", r.written_off},
                          {"outstanding", r.outstanding},
                          {"epochs", r.epochs},
                          {"rounds", r.rounds},
                          {"records_void", r.records_void},
                          {"checkpoints", r.checkpoints},
                          {"torn_lines", r.torn_lines},
                          {"vetoes", r.vetoes},
                          {"divergences", r.divergences},
                          {"contributions_vetoed", r.vetoed},
                          {"contributions_clipped", r.clipped},
                          {"audits", nlohmann::json::array()},
                          {"lost_logs", r.lost_logs},
                          {"unproved_rounds", r.unproved_rounds},
                          {"groups", nlohmann::json::array()},
                          {"violations", nlohmann::json::array()}};
    for (const auto& [group, round] : r.last_round) {
      const auto anchor = r.last_anchor.find(group);
      answer["groups"].push_back(
          {{"group", group}, {"round", round}, {"anchor", anchor == r.last_anchor.end() ? "" : anchor->second.hex()}});
    }
    for (const auto& [site, tally] : r.audits)
      answer["audits"].push_back({{"site", site},
                                  {"made", tally.cosines.size()},
                                  {"failed", tally.failed},
                                  {"cosine_least", tally.cosines.front()},
                                  {"cosine_median", median_of(tally)}});
    for (const auto& v : r.violations) answer["violations"].push_back({{"rule", v.rule}, {"where", v.where}, {"what", v.what}});
    out.answer(answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  } else {
    out.answer(ledger_text(r));
  }
  return r.balanced() ? exit_ok : exit_violated;
}

}  // namespace isthmus::launcher
