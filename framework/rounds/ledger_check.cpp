#include "framework/rounds/ledger_check.hpp"

#include "framework/rounds/ledger_read.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <map>
#include <set>
#include <string>

namespace isthmus {

namespace ledger_check {

namespace {

/// What a site's lines say of one checkpoint.
struct known_checkpoint {
  std::set<std::string> announced;  // hashes of `saving`: each save that began under this name
  std::string durable;
  bool holds(const std::string& manifest) const { return durable.empty() ? announced.contains(manifest) : durable == manifest; }
};

void check_loaded(const site_line& line, const std::map<std::string, known_checkpoint>& known, const std::set<incarnation_number>& heard,
                  violations& wrong) {
  const auto id = line.body->at("id").get<std::string>();
  const auto found = known.find(id);
  if (found != known.end()) {
    if (!found->second.holds(line.body->at("manifest").get<std::string>()))
      wrong.add(line.where, "checkpoint_id", "checkpoint " + id + " was loaded with other bytes than were written");
    return;
  }
  // Where the process that saved it left no line at all, its ledger is gone, and with it what it said of checkpoints.
  if (heard.contains(line.body->value("saved_by", incarnation_number{0})))
    wrong.add(line.where, "checkpoint_loaded", "checkpoint " + id + " was loaded, but no line says that it was ever saved");
}

}  // namespace

/// L3: an id means one set of bytes, and only what was saved is loaded.
void check_checkpoints(const logs& all, ledger_report& report) {
  violations wrong(report);
  for (const auto& [site, lines] : all.sites) {
    std::map<std::string, known_checkpoint> known;
    std::set<incarnation_number> heard;
    for (const site_line& line : lines) {
      heard.insert(line.incarnation);
      if (line.type != "checkpoint") continue;
      const auto id = line.body->at("id").get<std::string>(), state = line.body->at("state").get<std::string>();
      const auto manifest = line.body->at("manifest").get<std::string>();
      if (state == "saving") {
        known[id].announced.insert(manifest);
      } else if (state == "durable") {
        ++report.checkpoints;
        auto& durable = known[id].durable;
        if (!durable.empty() && durable != manifest)
          wrong.add(line.where, "checkpoint_id", "checkpoint " + id + " was already written with other bytes");
        durable = manifest;
      } else if (state == "loaded") {
        check_loaded(line, known, heard, wrong);
      }  // removed: a crash may bring it back, and its bytes are still known
    }
  }
}

}  // namespace ledger_check

std::uint64_t ledger_report::audits_made() const {
  std::uint64_t made = 0;
  for (const auto& [site, tally] : audits) made += tally.cosines.size();
  return made;
}

std::uint64_t ledger_report::audits_failed() const {
  std::uint64_t failed = 0;
  for (const auto& [site, tally] : audits) failed += tally.failed;
  return failed;
}

expected<ledger_report> check_ledgers(const storage& run) {
  ledger_report report;
  auto all = ledger_check::read_logs(run, report);
  if (!all) return all.failure();
  report.complete = all->finished;
  const bool readable = report.balanced();
  std::map<hash128, ledger_check::known_record> records;
  try {
    const auto history = ledger_check::check_rounds(*all, records, report);
    if (all->epochs.empty() && readable && report.rounds > 0)
      return fail(errc::not_found,
                  fmt::format("coordinator.jsonl has no epoch or is missing, though the other logs hold {} rounds: which of "
                              "them count cannot be told; bring it back from a copy of the run",
                              report.rounds));
    ledger_check::check_samples(*all, history, records, report);
    ledger_check::check_mass(*all, history, records, report);
    ledger_check::check_checkpoints(*all, report);
  } catch (const nlohmann::json::exception& e) {
    return fail(errc::malformed, std::string("a ledger line lacks a field: ") + e.what());
  } catch (const std::invalid_argument& e) { return fail(errc::malformed, std::string("a ledger line holds ") + e.what()); }
  return report;
}

expected<ledger_report> check_growing_ledgers(const storage& run) {
  const auto before = check_ledgers(run);
  if (!before || before->balanced()) return before;
  auto now = check_ledgers(run);
  if (!now) return now;
  std::set<std::pair<std::string, std::string>> seen;
  for (const auto& v : before->violations) seen.emplace(v.where, v.rule);
  std::erase_if(now->violations, [&](const ledger_violation& v) { return !seen.contains({v.where, v.rule}); });
  return now;
}

}  // namespace isthmus
