#include "actors/sim/live_check.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace isthmus::actors {

namespace {

bool says(std::string_view line, std::string_view type) { return line.find(fmt::format("\"t\":\"{}\"", type)) != std::string_view::npos; }

}  // namespace

void live_check::written(const std::string& file, std::string_view text) {
  while (!text.empty() && violation_.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    line(file, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void live_check::line(const std::string& file, std::string_view text) {
  const bool applied = says(text, "applied"), committed = says(text, "committed"), epoch = says(text, "epoch");
  if (!applied && !committed && !epoch) return;
  const auto body = nlohmann::json::parse(text, nullptr, false);
  if (body.is_discarded()) return;  // the end of a torn line, closed off
  if (epoch) {
    for (const auto& cut : body.at("view").at("cuts")) {
      auto& highest = cuts_[cut.at("group").get<group_id>()];
      highest = std::max(highest, cut.at("round").get<round_number>());
    }
    return;
  }
  const auto& record = body.at("record");
  const record_key key{record.at("group").get<group_id>(), record.at("round").get<round_number>(),
                       record.at("anchor_hash").get<std::string>()};
  const auto [group, round, anchor] = key;
  if (committed)
    committed_.insert(key);
  else if (round > cuts_[group] && !committed_.contains(key))
    violation_ = fmt::format("{} applies round {} of group {}, which nobody has committed yet", file, round, group);
}

}  // namespace isthmus::actors
