#include "framework/rounds/ledger_check.hpp"

#include "framework/rounds/ledger_read.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace isthmus {

namespace ledger_check {

/// L3: an id means one set of bytes, and only what was durable is loaded.
void check_checkpoints(const logs& all, ledger_report& report) {
  violations wrong(report);
  for (const auto& [site, lines] : all.sites) {
    std::map<std::string, std::string> durable;  // id -> manifest
    for (const site_line& line : lines) {
      if (line.type != "checkpoint") continue;
      const auto id = line.body->at("id").get<std::string>(), state = line.body->at("state").get<std::string>();
      const auto manifest = line.body->at("manifest").get<std::string>();
      const auto known = durable.find(id);
      if (state == "durable") {
        ++report.checkpoints;
        if (known != durable.end() && known->second != manifest)
          wrong.add(line.where, "checkpoint_id", "checkpoint " + id + " was already written with other bytes");
        durable[id] = manifest;
      } else if (state == "removed") {
        durable.erase(id);
      } else if (state == "loaded" && known != durable.end() && known->second != manifest) {
        wrong.add(line.where, "checkpoint_id", "checkpoint " + id + " was loaded with other bytes than were written");
      }
    }
  }
}

}  // namespace ledger_check

expected<ledger_report> check_ledgers(const storage& run) {
  ledger_report report;
  auto all = ledger_check::read_logs(run, report);
  if (!all) return all.failure();
  report.complete = all->finished;
  std::map<hash128, ledger_check::known_record> records;
  try {
    const auto history = ledger_check::check_rounds(*all, records, report);
    ledger_check::check_samples(*all, history, records, report);
    ledger_check::check_mass(*all, history, records, report);
    ledger_check::check_checkpoints(*all, report);
  } catch (const nlohmann::json::exception& e) {
    return fail(errc::malformed, std::string("a ledger line lacks a field: ") + e.what());
  } catch (const std::invalid_argument& e) { return fail(errc::malformed, std::string("a ledger line holds ") + e.what()); }
  return report;
}

}  // namespace isthmus
