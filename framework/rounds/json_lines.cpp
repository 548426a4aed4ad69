#include "framework/rounds/json_lines.hpp"

#include "framework/rounds/guard.hpp"

#include <nlohmann/json.hpp>

#include <charconv>
#include <stdexcept>

namespace isthmus::json_lines {

using nlohmann::json;

namespace {

constexpr std::string_view mark = ",\"sum\":\"";
constexpr std::size_t tail = mark.size() + 16 + 2;  // the digits, a quote and a brace

std::string checksum(std::string_view text) { return hash_bytes(std::as_bytes(std::span(text.data(), text.size()))).hex().substr(16); }

std::uint64_t hex_word(std::string_view text) {
  std::uint64_t word = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), word, 16);
  if (ec != std::errc() || end != text.data() + text.size()) throw std::invalid_argument("not a hash");
  return word;
}

verdict verdict_from(const std::string& name) {
  for (std::uint8_t v = 0; v < verdicts; ++v)
    if (name == name_of(static_cast<verdict>(v))) return static_cast<verdict>(v);
  throw std::invalid_argument("no verdict: " + name);
}

}  // namespace

std::string seal(std::string_view object) {
  ensure(object.size() > 2 && object.back() == '}', "json_lines: not an object with fields");
  const std::string_view head = object.substr(0, object.size() - 1);
  return std::string(head) + std::string(mark) + checksum(head) + "\"}\n";
}

expected<json> open(std::string_view line, const std::string& where) {
  if (line.size() <= tail || line.substr(line.size() - tail, mark.size()) != mark || line.substr(line.size() - 2) != "\"}")
    return fail(errc::truncated, where + ": the line does not end with its checksum");
  const std::string_view head = line.substr(0, line.size() - tail);
  if (line.substr(line.size() - 18, 16) != checksum(head))
    return fail(errc::checksum_mismatch, where + ": the line is not what was written (checksum " + checksum(head) + ", found " +
                                             std::string(line.substr(line.size() - 18, 16)) + ")");
  json object = json::parse(std::string(head) + "}", nullptr, false);
  if (!object.is_object()) return fail(errc::malformed, where + ": not a JSON object");
  return object;
}

std::vector<numbered_line> split(std::string_view text) {
  std::vector<numbered_line> lines;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    lines.push_back({number, text.substr(0, end), end != std::string_view::npos});
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

json to_json(const lease& l) { return json::array({l.shard, l.begin, l.end}); }

json to_json(const contributor& c) {
  json leases = json::array();
  for (const lease& l : c.leases) leases.push_back(to_json(l));
  json object = {{"site", c.site},  {"incarnation", c.incarnation}, {"step", c.step}, {"tokens", c.tokens}, {"mass", c.mass},
                 {"leases", leases}};
  if (c.judged != verdict::taken) {
    object["verdict"] = name_of(c.judged);
    object["uncounted"] = c.uncounted;
    object["clipped"] = c.clipped;
  }
  if (c.barred_until > 0) object["barred_until"] = c.barred_until;
  if (c.rounds > 0) object["rounds"] = c.rounds;
  if (c.strikes > 0) object["strikes"] = c.strikes;
  if (c.audits_failed > 0) object["audits_failed"] = c.audits_failed;
  return object;
}

json to_json(const audit_result& a) {
  json object = {{"site", a.site}, {"round", a.round}, {"cosine", a.cosine}, {"failed", a.failed}};
  if (a.barred_until > 0) object["barred_until"] = a.barred_until;
  return object;
}

json to_json(const round_record& r) {
  json contributors = json::array();
  for (const contributor& c : r.contributors) contributors.push_back(to_json(c));
  json object = {{"group", r.group},
                 {"round", r.round},
                 {"epoch", r.epoch},
                 {"home", r.home},
                 {"contributors", contributors},
                 {"tokens_total", r.tokens_total},
                 {"weight", r.weight},
                 {"mass", r.mass},
                 {"delta_hash", r.delta_hash.hex()},
                 {"anchor_hash", r.anchor_hash.hex()},
                 {"previous", r.previous.hex()}};
  for (const audit_result& a : r.audits) object["audits"].push_back(to_json(a));
  return object;
}

json to_json(const epoch_view& v) {
  json members = json::array(), cuts = json::array();
  for (const epoch_member& m : v.members) {
    members.push_back({{"site", m.site}, {"incarnation", m.incarnation}, {"joining", m.joining}, {"source", m.source}});
    if (m.standing_by) members.back()["standing_by"] = true;
  }
  for (const group_cut& c : v.cuts)
    cuts.push_back({{"group", c.group},
                    {"home", c.home},
                    {"round", c.round},
                    {"epoch", c.epoch},
                    {"record", c.record_hash.hex()},
                    {"anchor", c.anchor_hash.hex()},
                    {"holder", c.holder}});
  return {{"number", v.number}, {"members", members}, {"cuts", cuts}, {"reason", v.reason}};
}

hash128 hash_from(const json& j) {
  const auto& text = j.get_ref<const std::string&>();
  if (text.size() != 32) throw std::invalid_argument("not a hash");
  return {hex_word(std::string_view(text).substr(0, 16)), hex_word(std::string_view(text).substr(16))};
}

lease lease_from(const json& j) { return {j.at(0).get<std::uint32_t>(), j.at(1).get<std::uint64_t>(), j.at(2).get<std::uint64_t>()}; }

contributor contributor_from(const json& j) {
  contributor c;
  c.site = j.at("site").get<site_id>();
  c.incarnation = j.at("incarnation").get<incarnation_number>();
  c.step = j.at("step").get<step_number>();
  c.tokens = j.at("tokens").get<std::uint64_t>();
  c.mass = j.at("mass").get<double>();
  for (const json& l : j.at("leases")) c.leases.push_back(lease_from(l));
  if (j.contains("verdict")) {
    c.judged = verdict_from(j.at("verdict").get_ref<const std::string&>());
    c.uncounted = j.at("uncounted").get<std::uint64_t>();
    c.clipped = j.at("clipped").get<double>();
    if (c.uncounted > c.tokens) throw std::invalid_argument("more uncounted tokens than tokens");
  }
  c.barred_until = j.value("barred_until", round_number{0});
  c.rounds = j.value("rounds", std::uint64_t{0});
  c.strikes = j.value("strikes", std::uint32_t{0});
  c.audits_failed = j.value("audits_failed", std::uint32_t{0});
  return c;
}

audit_result audit_from(const json& j) {
  return {j.at("site").get<site_id>(), j.at("round").get<round_number>(), j.at("cosine").get<double>(), j.at("failed").get<bool>(),
          j.value("barred_until", round_number{0})};
}

round_record record_from(const json& j) {
  round_record r;
  r.group = j.at("group").get<group_id>();
  r.round = j.at("round").get<round_number>();
  r.epoch = j.at("epoch").get<epoch_number>();
  r.home = j.at("home").get<site_id>();
  for (const json& c : j.at("contributors")) r.contributors.push_back(contributor_from(c));
  r.tokens_total = j.at("tokens_total").get<std::uint64_t>();
  r.weight = j.at("weight").get<double>();
  r.mass = j.at("mass").get<double>();
  r.delta_hash = hash_from(j.at("delta_hash"));
  r.anchor_hash = hash_from(j.at("anchor_hash"));
  r.previous = hash_from(j.at("previous"));
  if (j.contains("audits"))
    for (const json& a : j.at("audits")) r.audits.push_back(audit_from(a));
  return r;
}

epoch_view view_from(const json& j) {
  epoch_view v;
  v.number = j.at("number").get<epoch_number>();
  for (const json& m : j.at("members"))
    v.members.push_back({m.at("site").get<site_id>(), m.at("incarnation").get<incarnation_number>(), m.at("joining").get<bool>(),
                         m.at("source").get<site_id>(), m.value("standing_by", false)});
  for (const json& c : j.at("cuts"))
    v.cuts.push_back({c.at("group").get<group_id>(), c.at("home").get<site_id>(), c.at("round").get<round_number>(),
                      c.at("epoch").get<epoch_number>(), hash_from(c.at("record")), hash_from(c.at("anchor")),
                      c.at("holder").get<site_id>()});
  v.reason = j.at("reason").get<std::string>();
  return v;
}

}  // namespace isthmus::json_lines
