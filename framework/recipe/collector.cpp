#include "framework/recipe/collector.hpp"

#include "framework/layers/catalog.hpp"
#include "framework/recipe/nearest.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace isthmus {

namespace {

/// Lists the key names of one section.
class key_lister final : public field_visitor {
public:
  std::vector<std::string> keys;
  void integer(const char* key, std::int64_t&, std::int64_t, std::int64_t, const char*) override { keys.emplace_back(key); }
  void real(const char* key, double&, double, double, const char*) override { keys.emplace_back(key); }
  void real(const char* key, float&, double, double, const char*) override { keys.emplace_back(key); }
  void flag(const char* key, bool&, const char*) override { keys.emplace_back(key); }
  void text(const char* key, std::string&, text_rule, const char*) override { keys.emplace_back(key); }
  void texts(const char* key, std::vector<std::string>&, text_rule, std::size_t, const char*) override { keys.emplace_back(key); }
  void choice(const char* key, std::string&, std::initializer_list<const char*>, const char*) override { keys.emplace_back(key); }
  void word(const char* key, std::size_t&, std::initializer_list<const char*>, const char*) override { keys.emplace_back(key); }
  void layers(model_config&) override { keys.insert(keys.end(), {"layers", "pattern", "n_layers", "channel_mixer", "variants"}); }
  void layer_options(model_config& m) override {
    for (const auto* field : m.catalog->options()) keys.emplace_back(field->key);
  }
};

template <class Section>
std::vector<std::string> keys_of(Section section) {
  key_lister lister;
  visit_fields(section, lister);
  return lister.keys;
}

std::map<std::string, std::vector<std::string>> all_keys() {
  std::map<std::string, std::vector<std::string>> out;
  recipe r;
  for_each_section(r, [&](const char* name, auto& section) { out[name] = keys_of(section); });
  out["sites"] = keys_of(recipe::site{});
  out["faults"] = keys_of(recipe::fault{});
  return out;
}

}  // namespace

bool names_secret(std::string_view key) {
  for (const char* secret :
       {"password", "passwd", "secret", "api_key", "access_key", "private_key", "credential", "access_token", "auth_token", "hf_token"})
    if (key.find(secret) != std::string_view::npos) return true;
  return false;
}

collector::collector(std::string file) : keys(all_keys()), file_(std::move(file)) {}

void collector::wrong(const char* code, const std::string& section, std::string message, std::string place, std::string allowed,
                      std::string help) {
  problems.push_back({code, std::move(message), std::move(place), std::move(allowed), std::move(help), false});
  unclean_.insert(section.substr(0, section.find('.')));
}

std::string collector::place_of(const std::string& key_path) const {
  for (auto path = key_path;;) {
    if (const auto found = places_.find(path); found != places_.end()) return found->second;
    const auto dot = path.rfind('.');
    if (dot == std::string::npos) return file_;
    path.resize(dot);
  }
}

bool collector::sound() const {
  return std::all_of(problems.begin(), problems.end(), [](const recipe_problem& p) { return p.warning; });
}

std::string collector::suggestion(const std::string& section, const std::string& name) const {
  if (names_secret(name)) return "a recipe holds no secrets: it is copied into the run folder and shown";
  if (const auto near = nearest_name(name, keys.at(section)); !near.empty()) return fmt::format("did you mean \"{}.{}\"?", section, near);
  if (const auto elsewhere = key_elsewhere(name); !elsewhere.empty()) return fmt::format("did you mean \"{}\"?", elsewhere);
  return fmt::format("`isthmus show --schema {}` explains them", section);
}

std::string collector::key_elsewhere(const std::string& name) const {
  for (const auto& [section, names] : keys)
    if (std::find(names.begin(), names.end(), name) != names.end()) return fmt::format("{}.{}", section, name);
  return {};
}

}  // namespace isthmus
