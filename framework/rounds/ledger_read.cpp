#include "framework/rounds/ledger_read.hpp"

#include "framework/rounds/json_lines.hpp"

#include <nlohmann/json.hpp>

#include <initializer_list>
#include <stdexcept>

namespace isthmus::ledger_check {

namespace {

constexpr std::size_t log_bytes_max = std::size_t{1} << 32;

std::string_view as_text(const std::vector<std::byte>& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

void read_coordinator(std::string_view text, const std::string& path, logs& all, ledger_report& report) {
  for (const auto& line : json_lines::split(text)) {
    ++report.lines;
    const std::string where = path + ":" + std::to_string(line.number);
    auto entry = parse_coordinator_line(std::string(line.text), where);
    if (!line.whole)  // the last: a crash tore it
      ++report.torn_lines;
    else if (!entry)
      violations(report).add(where, "readable", entry.error().message);
    else if (entry->end)
      all.finished = true;
    else
      all.epochs.push_back({where, std::move(*entry)});
  }
}

/// Every field that the checks read, of the type they expect; throws what nlohmann or json_lines say of the first that is not so.
void check_fields(const std::string& type, const nlohmann::json& body) {
  const auto numbers = [&](std::initializer_list<const char*> keys) {
    for (const char* key : keys) static_cast<void>(body.at(key).get<double>());
  };
  if (type == "granted" || type == "returned" || type == "written_off" || type == "partial") {
    const lease l = json_lines::lease_from(body.at("lease"));
    if (l.begin >= l.end) throw std::invalid_argument("an empty lease");
  }
  if (body.contains("record")) static_cast<void>(json_lines::record_from(body.at("record")));
  if (type == "committed") static_cast<void>(body.at("stored_at").get<std::vector<site_id>>());
  if (type == "stored" || type == "committed" || type == "applied" || type == "copied") static_cast<void>(body.at("record"));
  if (type == "started") static_cast<void>(body.at("groups").get<std::size_t>());
  if (type == "diverged") numbers({"group"});
  if (type == "aggregator") numbers({"group", "round", "epoch", "mass"});
  if (type == "mass") numbers({"group", "round", "change", "decayed", "frame", "residual", "norm", "step"});
  if (type == "mass" || type == "aggregator") static_cast<void>(body.at("event").get<std::string>());
  if (type == "checkpoint") {
    for (const char* key : {"id", "state", "manifest"}) static_cast<void>(body.at(key).get<std::string>());
    if (body.contains("saved_by")) numbers({"saved_by"});
  }
}

/// A line that cannot be read is a crash's torn end when it is the last, or when a new process starts behind it; the first line of that one
/// may be torn by the next crash.
void read_site(std::string_view text, const std::string& path, logs& all, ledger_report& report) {
  std::vector<error> torn;
  for (const auto& line : json_lines::split(text)) {
    ++report.lines;
    const std::string where = path + ":" + std::to_string(line.number);
    auto body = line.whole ? json_lines::open(line.text, where) : expected<nlohmann::json>(fail(errc::truncated, where + ": torn"));
    site_line parsed;
    if (body) try {
        parsed = {where, body->at("site").get<site_id>(), body->at("incarnation").get<incarnation_number>(),
                  body->at("t").get<std::string>(), std::make_shared<const nlohmann::json>(*body)};
        check_fields(parsed.type, *body);
      } catch (const std::exception& e) { body = fail(errc::malformed, where + ": " + e.what()); }
    if (!body) {
      torn.push_back(body.error());
      continue;
    }
    if (parsed.type == "started") report.torn_lines += torn.size();
    if (parsed.type != "started")
      for (const error& e : torn) violations(report).add(e.message.substr(0, e.message.find(": ")), "readable", e.message);
    torn.clear();
    all.sites[parsed.site].push_back(std::move(parsed));
  }
  report.torn_lines += torn.size();
}

}  // namespace

expected<logs> read_logs(const storage& run, ledger_report& report) {
  logs all;
  bool any = false;
  const std::string log = "coordinator.jsonl";
  if (run.exists(log)) {
    auto bytes = run.read(log, log_bytes_max);
    if (!bytes) return bytes.failure();
    read_coordinator(as_text(*bytes), log, all, report);
    any = true;
  }
  for (const std::string& name : run.list("ledger")) {
    if (!name.starts_with("site-") || !name.ends_with(".jsonl")) continue;
    const std::string path = "ledger/" + name;
    auto bytes = run.read(path, log_bytes_max);
    if (!bytes) return bytes.failure();
    read_site(as_text(*bytes), path, all, report);
    any = true;
  }
  if (!any) return fail(errc::not_found, "no ledger here: neither coordinator.jsonl nor ledger/site-*.jsonl");
  return all;
}

}  // namespace isthmus::ledger_check
