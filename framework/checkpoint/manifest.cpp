#include "framework/checkpoint/manifest.hpp"

#include "framework/core/json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <limits>
#include <set>

namespace isthmus {

namespace {

using json = nlohmann::json;

constexpr const char* format_name = "isthmus-checkpoint";
constexpr std::size_t state_depth_max = 24, manifest_depth_max = 32;

std::string checksum_of(const json& without_checksum) {
  const std::string text = without_checksum.dump();
  return hash_bytes(std::as_bytes(std::span(text))).hex();
}

/// Reads fields of one object; the first fault stays.
class fields {
public:
  fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) refuse("", "must be an object");
  }

  std::uint64_t number(const char* key, std::uint64_t max = std::numeric_limits<std::uint64_t>::max()) {
    const json* value = at(key);
    if (value == nullptr) return 0;
    if (!value->is_number_unsigned() || value->get<std::uint64_t>() > max) {
      refuse(key, "must be a whole number of at most " + std::to_string(max));
      return 0;
    }
    return value->get<std::uint64_t>();
  }
  std::string text(const char* key) {
    const json* value = at(key);
    if (value == nullptr) return {};
    if (!value->is_string()) refuse(key, "must be a string");
    return value->is_string() ? value->get<std::string>() : std::string();
  }
  hash128 hash(const char* key) {
    const std::string digits = text(key);
    const auto parsed = parse_hash(digits);
    if (!parsed) refuse(key, "must be 32 lower-case hex digits");
    return parsed.value_or(hash128{});
  }
  const json& list(const char* key) {
    static const json none = json::array();
    const json* value = at(key);
    if (value == nullptr || !value->is_array()) {
      refuse(key, "must be an array");
      return none;
    }
    return *value;
  }
  const json* at(const char* key) {
    if (!object_.is_object()) return nullptr;
    const auto found = object_.find(key);
    if (found == object_.end()) {
      refuse(key, "is missing");
      return nullptr;
    }
    return &*found;
  }
  void refuse(const std::string& key, const std::string& what) {
    if (fault_.empty()) fault_ = where_ + ": " + (key.empty() ? "" : "\"" + key + "\" ") + what;
  }
  expected<void> outcome() const {
    if (!fault_.empty()) return fail(errc::malformed, fault_);
    return {};
  }

private:
  const json& object_;
  std::string where_, fault_;
};

expected<held_record> read_group(const json& value, const std::string& where) {
  fields f(value, where);
  held_record held;
  held.group = static_cast<group_id>(f.number("group", std::numeric_limits<group_id>::max()));
  held.round = f.number("round");
  held.epoch = f.number("epoch");
  held.record_hash = f.hash("record_hash");
  held.anchor_hash = f.hash("anchor_hash");
  if (auto ok = f.outcome(); !ok) return ok.failure();
  return held;
}

expected<checkpoint_manifest::file> read_file(const json& value, const std::string& where) {
  fields f(value, where);
  checkpoint_manifest::file file;
  file.part = f.text("part");
  file.digest.bytes = f.number("bytes", std::uint64_t{1} << 50);
  file.digest.hash = f.hash("xxh3");
  if (!is_part_name(file.part)) f.refuse("part", "must match [a-z0-9_-]{1,64}: a path is never taken from a manifest");
  if (auto ok = f.outcome(); !ok) return ok.failure();
  return file;
}

expected<void> read_lists(fields& f, const std::string& where, checkpoint_manifest& out) {
  const json& groups = f.list("groups");
  for (std::size_t i = 0; i < groups.size(); ++i) {
    auto group = read_group(groups[i], where + ": groups[" + std::to_string(i) + "]");
    if (!group) return group.failure();
    out.facts.groups.push_back(*group);
  }
  std::set<std::string> names;
  const json& files = f.list("files");
  for (std::size_t i = 0; i < files.size(); ++i) {
    auto file = read_file(files[i], where + ": files[" + std::to_string(i) + "]");
    if (!file) return file.failure();
    if (!names.insert(file->part).second) return fail(errc::malformed, where + ": part \"" + file->part + "\" stands twice in files");
    out.files.push_back(*file);
  }
  return {};
}

/// Format, version and the manifest's own checksum, which it takes out.
expected<void> check_envelope(json& manifest, const std::string& where) {
  if (!manifest.is_object() || manifest.value("format", json()) != format_name)
    return fail(errc::unsupported, where + ": not the manifest of a checkpoint: \"format\" must be \"" + format_name + "\"");
  const json version = manifest.value("version", json());
  if (version != checkpoint_version)
    return fail(errc::unsupported, where + ": version " + version.dump().substr(0, 20) + ", this program reads version " +
                                       std::to_string(checkpoint_version) + "; use the program that wrote it, or a newer one");
  const json checksum = manifest.value("xxh3", json());
  manifest.erase("xxh3");
  if (checksum != checksum_of(manifest))
    return fail(errc::checksum_mismatch, where + ": its own checksum \"xxh3\" is " + checksum.dump().substr(0, 40) +
                                             ", its content gives \"" + checksum_of(manifest) + "\": the file is damaged or was edited");
  return {};
}

}  // namespace

std::uint64_t checkpoint_manifest::bytes() const {
  std::uint64_t sum = 0;
  for (const auto& one : files) sum += one.digest.bytes;  // each below 2^50
  return sum;
}

bool is_part_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

std::string write_manifest(const checkpoint_manifest& m) {
  auto state = parse_json(m.facts.state, "checkpoint state", state_depth_max);
  ensure(state.has_value() && state->is_object(), "write_manifest: facts.state is not a JSON object");
  json groups = json::array(), files = json::array();
  for (const auto& g : m.facts.groups)
    groups.push_back({{"group", g.group},
                      {"round", g.round},
                      {"epoch", g.epoch},
                      {"record_hash", g.record_hash.hex()},
                      {"anchor_hash", g.anchor_hash.hex()}});
  for (const auto& f : m.files) {
    ensure(is_part_name(f.part), "write_manifest: a part's name is not [a-z0-9_-]{1,64}");
    files.push_back({{"part", f.part}, {"bytes", f.digest.bytes}, {"xxh3", f.digest.hash.hex()}});
  }
  json manifest{{"format", format_name},
                {"version", checkpoint_version},
                {"sequence", m.sequence},
                {"run_id", m.facts.run_id},
                {"recipe_hash", m.facts.recipe_hash.hex()},
                {"site", m.facts.site},
                {"incarnation", m.facts.incarnation},
                {"step", m.facts.step},
                {"tokens", m.facts.tokens},
                {"seed", m.facts.seed},
                {"groups", std::move(groups)},
                {"files", std::move(files)},
                {"state", std::move(*state)}};
  manifest["xxh3"] = checksum_of(manifest);
  return manifest.dump(1) + "\n";
}

expected<checkpoint_manifest> parse_manifest(std::string_view text, const std::string& where) {
  auto parsed = parse_json(text, where, manifest_depth_max);
  if (!parsed) return parsed.failure();
  if (auto ok = check_envelope(*parsed, where); !ok) return ok.failure();
  fields f(*parsed, where);
  checkpoint_manifest m;
  m.sequence = f.number("sequence");
  m.facts.run_id = f.text("run_id");
  m.facts.recipe_hash = f.hash("recipe_hash");
  m.facts.site = static_cast<site_id>(f.number("site", std::numeric_limits<site_id>::max()));
  m.facts.incarnation = f.number("incarnation");
  m.facts.step = f.number("step");
  m.facts.tokens = f.number("tokens");
  m.facts.seed = f.number("seed");
  if (auto ok = read_lists(f, where, m); !ok) return ok.failure();
  const json* state = f.at("state");
  if (state != nullptr && !state->is_object()) f.refuse("state", "must be an object");
  if (auto ok = f.outcome(); !ok) return ok.failure();
  m.facts.state = state->dump();
  return m;
}

}  // namespace isthmus
