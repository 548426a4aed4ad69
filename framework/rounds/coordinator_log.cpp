#include "framework/rounds/coordinator_log.hpp"

#include "framework/rounds/json_lines.hpp"

#include <nlohmann/json.hpp>

namespace isthmus {

using nlohmann::json;

std::string to_line(const coordinator_entry& entry) {
  json ended = json::array();
  for (const epoch_member& m : entry.ended) ended.push_back({{"site", m.site}, {"incarnation", m.incarnation}});
  return json_lines::seal(json{
      {"t", entry.end ? "end" : "epoch"},
      {"view", json_lines::to_json(entry.view)},
      {"sealed", entry.sealed},
      {"ended", ended},
      {"restart",
       entry.restart}}.dump());
}

expected<coordinator_entry> parse_coordinator_line(const std::string& line, const std::string& where) {
  auto object = json_lines::open(line, where);
  if (!object) return object.failure();
  try {
    coordinator_entry entry;
    entry.end = object->at("t") == "end";
    entry.view = json_lines::view_from(object->at("view"));
    entry.sealed = object->at("sealed").get<std::vector<site_id>>();
    for (const json& m : object->at("ended"))
      entry.ended.push_back({m.at("site").get<site_id>(), m.at("incarnation").get<incarnation_number>(), false, 0});
    entry.restart = object->at("restart").get<bool>();
    return entry;
  } catch (const std::exception& e) { return fail(errc::malformed, where + ": not an entry of the coordinator's log: " + e.what()); }
}

expected<void> coordinator_log::append(const coordinator_entry& entry) {
  const epoch_number last = entries_.empty() ? 0 : entries_.back().view.number;
  if (entry.view.number != last + (entry.end ? 0 : 1))
    return fail(errc::stale_epoch,
                place() + ": holds epoch " + std::to_string(last) + ", cannot append " + std::to_string(entry.view.number));
  if (auto ok = write(entry); !ok) return ok;
  entries_.push_back(entry);
  return {};
}

}  // namespace isthmus
