#include "framework/rounds/ledger.hpp"

#include "framework/core/planted.hpp"
#include "framework/rounds/json_lines.hpp"

#include <nlohmann/json.hpp>

namespace isthmus {

using json_lines::to_json;
using nlohmann::json;

namespace ledger {

std::string granted(step_number step, const lease& range) {
  return json{{"t", "granted"}, {"step", step}, {"lease", to_json(range)}}.dump();
}
std::string returned(const lease& range, std::string_view reason) {
  return json{{"t", "returned"}, {"lease", to_json(range)}, {"reason", reason}}.dump();
}
std::string written_off(const lease& range, std::string_view reason) {
  return json{{"t", "written_off"}, {"lease", to_json(range)}, {"reason", reason}}.dump();
}
std::string partial(const lease& range, const std::vector<group_id>& missed) {
  return json{{"t", "partial"}, {"lease", to_json(range)}, {"missed", missed}}.dump();
}

std::string stored(const round_record& record) { return json{{"t", "stored"}, {"record", to_json(record)}}.dump(); }

std::string committed(const round_record& record, const std::vector<site_id>& stored_at) {
  return json{{"t", "committed"}, {"record", to_json(record)}, {"stored_at", stored_at}}.dump();
}
std::string applied(const round_record& record, bool mine) {
  return json{{"t", "applied"}, {"record", to_json(record)}, {"mine", mine}}.dump();
}
std::string voided(const round_record& record, epoch_number epoch) {
  return json{{"t", "voided"}, {"record", to_json(record)}, {"epoch", epoch}}.dump();
}
std::string copied(const round_record& record, site_id source, epoch_number epoch) {
  return json{{"t", "copied"}, {"record", to_json(record)}, {"source", source}, {"epoch", epoch}}.dump();
}
std::string entered(epoch_number epoch, group_id group, round_number round) {
  return json{{"t", "entered"}, {"epoch", epoch}, {"group", group}, {"round", round}}.dump();
}
std::string aggregator(group_id group, round_number round, epoch_number epoch, std::string_view event, double mass) {
  return json{{"t", "aggregator"}, {"group", group}, {"round", round}, {"epoch", epoch}, {"event", event}, {"mass", mass}}.dump();
}
std::string diverged(group_id group, round_number round, const hash128& expected, const hash128& found) {
  return json{{"t", "diverged"}, {"group", group}, {"round", round}, {"expected", expected.hex()}, {"found", found.hex()}}.dump();
}
std::string mass(const mass_line& m) {
  return json{{"t", "mass"},          {"event", m.event},  {"group", m.group},       {"round", m.round}, {"change", m.change},
              {"decayed", m.decayed}, {"frame", m.frame},  {"residual", m.residual}, {"norm", m.norm},   {"written_off", m.written_off},
              {"step", m.step},       {"tokens", m.tokens}}
      .dump();
}

std::string checkpoint(std::string_view id, std::string_view state, const hash128& manifest) {
  return json{{"t", "checkpoint"}, {"id", id}, {"state", state}, {"manifest", manifest.hex()}}.dump();
}
std::string checkpoint_loaded(std::string_view id, const hash128& manifest, incarnation_number saved_by) {
  return json{{"t", "checkpoint"}, {"id", id}, {"state", "loaded"}, {"manifest", manifest.hex()}, {"saved_by", saved_by}}.dump();
}
std::string started(std::uint32_t groups) { return json{{"t", "started"}, {"groups", groups}}.dump(); }
std::string ended(std::string_view reason) { return json{{"t", "ended"}, {"reason", reason}}.dump(); }

std::string reopened(std::string_view reason) { return json{{"t", "reopened"}, {"reason", reason}}.dump(); }

std::string record_json(const round_record& record) { return to_json(record).dump(); }

expected<round_record> parse_record(std::string_view text, const std::string& where) {
  try {
    return json_lines::record_from(json::parse(text));
  } catch (const std::exception& e) { return fail(errc::malformed, where + ": not a round's record: " + e.what()); }
}

}  // namespace ledger

namespace {

constexpr std::size_t ledger_bytes_max = std::size_t{1} << 32;

/// Checkpoints' lines alone have an id, and a number of at least six digits at its end.
std::string highest_checkpoint(std::string_view text) {
  constexpr std::string_view key = "\"id\":\"";
  std::string_view highest;
  for (std::size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at)) {
    at += key.size();
    const std::string_view id = text.substr(at, text.find('"', at) - at);
    if (id.size() > highest.size() || (id.size() == highest.size() && id > highest)) highest = id;
  }
  return std::string(highest);
}

}  // namespace

std::string ledger_writer::path_of(site_id site) { return "ledger/site-" + std::to_string(site) + ".jsonl"; }

expected<std::unique_ptr<ledger_writer>> ledger_writer::open(storage& disk, const std::string& path, site_id site,
                                                             incarnation_number incarnation) {
  bool torn = false;
  std::string last_checkpoint;
  const bool is_new = !disk.exists(path);
  if (!is_new) {
    auto old = disk.read(path, ledger_bytes_max);
    if (!old) return old.failure();
    torn = !old->empty() && old->back() != std::byte{'\n'};
    last_checkpoint = highest_checkpoint({reinterpret_cast<const char*>(old->data()), old->size()});
  }
  auto file = disk.open_append(path);
  if (!file) return file.failure();
  if (is_new)
    for (const auto& folder : {path.substr(0, path.rfind('/')), std::string(".")})
      if (auto ok = disk.sync_folder(folder); !ok) return ok.failure();
  auto writer = std::unique_ptr<ledger_writer>(new ledger_writer(std::move(*file), path, site, incarnation));
  writer->last_checkpoint_ = std::move(last_checkpoint);
  if (torn && !is_planted(planted::forget_torn_line)) {
    const std::byte newline{'\n'};
    if (auto ok = writer->file_->append({&newline, 1}); !ok) return ok.failure();
  }
  return writer;
}

expected<void> ledger_writer::write(std::string_view line) {
  if (failed_) return fail(errc::io_failed, path_ + ": an earlier write failed, the ledger is closed");
  ensure(line.size() > 2 && line.front() == '{', "ledger_writer: not an object with fields");
  const std::string text = json_lines::seal("{\"site\":" + std::to_string(site_) + ",\"incarnation\":" + std::to_string(incarnation_) +
                                            "," + std::string(line.substr(1)));
  auto done = file_->append(std::as_bytes(std::span(text.data(), text.size())));
  if (!done) failed_ = true;
  return done;
}

expected<void> ledger_writer::sync() {
  if (failed_) return fail(errc::io_failed, path_ + ": an earlier write failed, the ledger is closed");
  auto done = file_->sync();
  if (!done) failed_ = true;
  return done;
}

}  // namespace isthmus
