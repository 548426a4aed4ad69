#include "framework/recipe/collector.hpp"
#include "framework/recipe/nearest.hpp"
#include "framework/recipe/overrides.hpp"
#include "framework/recipe/schema.hpp"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

namespace isthmus {

namespace {

std::string place_text(const toml::source_region& source) {
  const std::string path = source.path ? *source.path : "";
  if (path.starts_with(override_prefix)) return path;
  return fmt::format("{}:{}:{}", path, source.begin.line, source.begin.column);
}

std::string shown(const toml::node& node) {
  std::ostringstream text;
  node.visit([&](const auto& n) { text << n; });
  auto out = text.str();
  for (auto& c : out)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return out.size() > 60 ? out.substr(0, 57) + "..." : out;
}

std::string kind_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table: return "a table";
    case toml::node_type::array: return "a list";
    case toml::node_type::string: return "text";
    case toml::node_type::integer: return "an integer";
    case toml::node_type::floating_point: return "a real number";
    case toml::node_type::boolean: return "a truth value";
    default: return "a date or time";
  }
}

/// "own.*" allows "own." and 1 to 60 of a-z, 0-9, _ and -; any other word allows itself.
bool allows(std::string_view allowed, std::string_view word) {
  if (!allowed.ends_with(".*")) return word == allowed;
  const auto prefix = allowed.substr(0, allowed.size() - 1);
  if (!word.starts_with(prefix)) return false;
  word.remove_prefix(prefix.size());
  constexpr std::size_t length_max = 60;
  return !word.empty() && word.size() <= length_max &&
         word.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string_view::npos;
}

/// Reads one section's keys out of one table (null: the section is not there, defaults stand).
class section_reader final : public field_visitor {
public:
  section_reader(collector& out, const toml::table* table, std::string path) : out_(out), table_(table), path_(std::move(path)) {}

  void integer(const char* key, std::int64_t& value, std::int64_t min, std::int64_t max, const char* help) override {
    if (const auto* node = find(key)) {
      const auto allowed = fmt::format("an integer from {} to {}", min, max);
      if (const auto* found = node->as_integer()) {
        if (found->get() < min || found->get() > max)
          bad_value(*node, key, allowed);
        else
          value = found->get();
      } else {
        bad_type(*node, key, allowed);
      }
    }
    keep(key, std::to_string(value), help);
  }

  void real(const char* key, double& value, double min, double max, const char* help) override {
    if (const auto found = number(key, min, max)) value = *found;
    keep(key, toml_text(value), help);
  }

  void real(const char* key, float& value, double min, double max, const char* help) override {
    if (const auto found = number(key, min, max)) value = static_cast<float>(*found);
    keep(key, toml_text(value), help);
  }

  void flag(const char* key, bool& value, const char* help) override {
    if (const auto* node = find(key)) {
      if (const auto* found = node->as_boolean())
        value = found->get();
      else
        bad_type(*node, key, "true or false");
    }
    keep(key, toml_text(value), help);
  }

  void text(const char* key, std::string& value, text_rule rule, const char* help) override {
    if (const auto* node = find(key)) {
      if (const auto* found = node->as_string()) {
        if (const auto allowed = breaks_rule(found->get(), rule); !allowed.empty())
          bad_value(*node, key, allowed);
        else
          value = found->get();
      } else {
        bad_type(*node, key, "text in quotes");
      }
    } else if (rule == text_rule::name && value.empty()) {
      out_.wrong("R018", path_, fmt::format("\"{}.{}\" is missing", path_, key), out_.place_of(path_), "every entry needs it");
    }
    keep(key, toml_text(value), help);
  }

  void texts(const char* key, std::vector<std::string>& value, text_rule rule, std::size_t most, const char* help) override {
    if (const auto* node = find(key)) {
      const auto* list = node->as_array();
      if (list == nullptr)
        bad_type(*node, key, fmt::format("a list of up to {}", most));
      else if (list->size() > most)
        bad_value(*node, key, fmt::format("a list of up to {}", most));
      else
        value = strings(*list, key, rule);
    }
    keep(key, toml_text(value), help);
  }

  void choice(const char* key, std::string& value, std::initializer_list<const char*> allowed, const char* help) override {
    if (const auto word = one_of(key, {allowed.begin(), allowed.end()})) value = *word;
    keep(key, toml_text(value), help);
  }

  void precision(const char* key, precision_kind& value, const char* help) override {
    if (const auto word = one_of(key, {"fp32", "bf16"})) value = *word == "bf16" ? precision_kind::bf16 : precision_kind::fp32;
    keep(key, value == precision_kind::bf16 ? "\"bf16\"" : "\"fp32\"", help);
  }

  void layers(std::vector<mixer_kind>& value) override {
    const auto* list = find("layers");
    const auto* pattern = find("pattern");
    const auto* count = find("n_layers");
    if (list != nullptr && (pattern != nullptr || count != nullptr))
      out_.wrong("R017", path_, "model.layers stands beside model.pattern or model.n_layers", place_text(list->source()),
                 "either layers, or pattern and n_layers");
    else if (list != nullptr)
      value = mixers(*list, "layers");
    else if (pattern != nullptr || count != nullptr)
      value = repeated(pattern, count);
    keep(list != nullptr || pattern == nullptr ? "layers" : "pattern", toml_text(value),
         "sequence mixers, one entry a layer; or pattern and n_layers", "layers");
  }

  /// Refuses what no field asked for.
  void finish(const std::vector<std::string>& section_keys) {
    if (table_ == nullptr) return;
    for (const auto& [key, node] : *table_) {
      const std::string name{key.str()};
      if (asked_.contains(name)) continue;
      out_.wrong("R012", path_, fmt::format("unknown key \"{}.{}\"", path_, name),
                 place_text(key.source().begin ? key.source() : node.source()), fmt::format("keys here: {}", fmt::join(section_keys, ", ")),
                 out_.suggestion(path_.substr(0, path_.find('.')), name));
    }
  }

private:
  const toml::node* find(const char* key) {
    asked_.insert(key);
    const auto* node = table_ != nullptr ? table_->get(key) : nullptr;
    if (node != nullptr) out_.seen(path_ + "." + key, place_text(node->source()));
    return node;
  }

  void keep(const char* key, std::string value, const char* help, const char* shown_key = nullptr) {
    const auto* node = table_ != nullptr ? table_->get(key) : nullptr;
    out_.values.push_back({path_ + "." + (shown_key != nullptr ? shown_key : key), std::move(value),
                           node != nullptr ? place_text(node->source()) : "default", help});
  }

  void bad_type(const toml::node& node, const char* key, const std::string& allowed) {
    std::string help;
    if (const auto* real = node.as_floating_point(); real != nullptr && allowed.starts_with("an integer") && std::isfinite(real->get()))
      help = "write it without point and exponent, as in 1_000_000";
    out_.wrong("R013", path_, fmt::format("\"{}.{}\" is {} ({})", path_, key, kind_of(node), shown(node)), place_text(node.source()),
               allowed, help);
  }
  void bad_value(const toml::node& node, const char* key, const std::string& allowed) {
    out_.wrong("R014", path_, fmt::format("\"{}.{}\" is {}", path_, key, shown(node)), place_text(node.source()), allowed);
  }

  std::optional<double> number(const char* key, double min, double max) {
    const auto* node = find(key);
    if (node == nullptr) return std::nullopt;
    const auto allowed = fmt::format("a number from {} to {}", min, max);
    const auto found = node->is_number() ? node->value<double>() : std::nullopt;
    if (!found) {
      bad_type(*node, key, allowed);
      return std::nullopt;
    }
    if (!(*found >= min && *found <= max)) {  // also when it is not a number
      bad_value(*node, key, allowed);
      return std::nullopt;
    }
    return found;
  }

  std::optional<std::string> one_of(const char* key, const std::vector<std::string>& allowed) {
    const auto* node = find(key);
    if (node == nullptr) return std::nullopt;
    const auto all = fmt::format("\"{}\"", fmt::join(allowed, "\", \""));
    const auto* word = node->as_string();
    if (word == nullptr) {
      bad_type(*node, key, all);
      return std::nullopt;
    }
    if (std::ranges::none_of(allowed, [&](const auto& one) { return allows(one, word->get()); })) {
      const auto nearest = nearest_name(word->get(), allowed);
      out_.wrong("R016", path_, fmt::format("\"{}.{}\" is {}", path_, key, shown(*node)), place_text(node->source()), all,
                 nearest.empty() ? "" : fmt::format("did you mean \"{}\"?", nearest));
      return std::nullopt;
    }
    return word->get();
  }

  std::vector<std::string> strings(const toml::array& list, const char* key, text_rule rule) {
    std::vector<std::string> out;
    for (const auto& entry : list) {
      const auto* text = entry.as_string();
      if (text == nullptr)
        bad_type(entry, key, "a list of texts in quotes");
      else if (const auto allowed = breaks_rule(text->get(), rule); !allowed.empty())
        bad_value(entry, key, allowed);
      else
        out.push_back(text->get());
    }
    return out;
  }

  std::vector<mixer_kind> mixers(const toml::node& node, const char* key) {
    const std::string allowed = "a list of \"attention\" and \"mamba2\"";
    std::vector<mixer_kind> out;
    const auto* list = node.as_array();
    if (list == nullptr) {
      bad_type(node, key, allowed);
      return out;
    }
    if (list->empty() || list->size() > layers_max) {
      out_.wrong("R014", path_, fmt::format("\"{}.{}\" has {} entries", path_, key, list->size()), place_text(node.source()),
                 fmt::format("1 to {}", layers_max));
      return out;
    }
    for (const auto& entry : *list) {
      const auto* word = entry.as_string();
      const auto kind = word != nullptr ? find_mixer(word->get()) : std::nullopt;
      if (kind)
        out.push_back(*kind);
      else
        out_.wrong("R016", path_, fmt::format("\"{}.{}\" holds {}", path_, key, shown(entry)), place_text(entry.source()), allowed,
                   word != nullptr && !nearest_name(word->get(), {"attention", "mamba2"}).empty()
                       ? fmt::format("did you mean \"{}\"?", nearest_name(word->get(), {"attention", "mamba2"}))
                       : "");
    }
    return out;
  }

  std::vector<mixer_kind> repeated(const toml::node* pattern, const toml::node* count) {
    if (pattern == nullptr || count == nullptr) {
      const auto& there = pattern != nullptr ? *pattern : *count;
      out_.wrong("R017", path_, "model.pattern and model.n_layers only mean something together", place_text(there.source()),
                 "layers, or pattern and n_layers");
      return {};
    }
    const auto once = mixers(*pattern, "pattern");
    const auto* layers = count->as_integer();
    const auto allowed = fmt::format("an integer from 1 to {}", layers_max);
    if (layers == nullptr)
      bad_type(*count, "n_layers", allowed);
    else if (layers->get() < 1 || layers->get() > static_cast<std::int64_t>(layers_max))
      bad_value(*count, "n_layers", allowed);
    else if (!once.empty()) {
      std::vector<mixer_kind> out;
      for (std::size_t i = 0; i < static_cast<std::size_t>(layers->get()); ++i) out.push_back(once[i % once.size()]);
      return out;
    }
    return {};
  }

  collector& out_;
  const toml::table* table_;
  std::string path_;
  std::set<std::string, std::less<>> asked_;
};

template <class Section>
void read_list(const toml::table& root, const char* name, std::size_t entries_max, std::vector<Section>& out_list, collector& out) {
  const auto* node = root.get(name);
  if (node == nullptr) return;
  out.seen(name, place_text(node->source()));
  const auto* list = node->as_array();
  if (list == nullptr || !std::all_of(list->begin(), list->end(), [](const toml::node& n) { return n.is_table(); })) {
    out.wrong("R013", name, fmt::format("\"{}\" is {}", name, list == nullptr ? kind_of(*node) : "a list of other things than tables"),
              place_text(node->source()), fmt::format("[[{}]] tables", name));
    return;
  }
  if (list->size() > entries_max) {
    out.wrong("R014", name, fmt::format("\"{}\" has {} entries", name, list->size()), place_text(node->source()),
              fmt::format("up to {}", entries_max));
    return;
  }
  for (std::size_t i = 0; i < list->size(); ++i) {
    const auto path = fmt::format("{}.{}", name, i);
    const auto* table = (*list)[i].as_table();
    out.seen(path, place_text(table->source()));
    section_reader reader(out, table, path);
    visit_fields(out_list.emplace_back(), reader);
    reader.finish(out.keys.at(name));
  }
}

void refuse_unknown_sections(const toml::table& root, collector& out) {
  std::vector<std::string> names;
  for (const auto& [name, keys] : out.keys) names.push_back(name);
  for (const auto& [key, node] : root) {
    const std::string name{key.str()};
    if (out.keys.contains(name)) continue;
    auto help = nearest_name(name, names);
    if (help.empty()) help = out.key_elsewhere(name);
    auto source = key.source().begin ? key.source() : node.source();
    if (const auto* made = node.as_table(); !source.begin && made != nullptr && !made->empty())
      source = made->begin()->second.source();  // a section that an override made stands nowhere itself
    out.wrong("R011", name, fmt::format("unknown {} \"{}\"", node.is_table() ? "section" : "key", name), place_text(source),
              fmt::format("sections: {}", fmt::join(names, ", ")), help.empty() ? "" : fmt::format("did you mean \"{}\"?", help));
  }
}

recipe read_tree(const toml::table& root, collector& out) {
  recipe r;
  refuse_unknown_sections(root, out);
  for_each_section(r, [&](const char* name, auto& section) {
    const auto* node = root.get(name);
    if (node != nullptr) out.seen(name, place_text(node->source()));
    if (node != nullptr && !node->is_table())
      out.wrong("R013", name, fmt::format("\"{}\" is {}", name, kind_of(*node)), place_text(node->source()),
                fmt::format("a table: [{}]", name));
    section_reader reader(out, node != nullptr ? node->as_table() : nullptr, name);
    visit_fields(section, reader);
    reader.finish(out.keys.at(name));
  });
  read_list(root, "sites", sites_max, r.sites, out);
  read_list(root, "faults", faults_max, r.faults, out);
  r.model.vocabulary = r.data.vocabulary;
  check_between_keys(r, out, out.problems);
  return r;
}

}  // namespace

recipe_reading read_recipe(std::string_view text, const std::string& file, const std::vector<std::string>& overrides) {
  for (const auto refuse : {refuse_shape, refuse_characters})
    if (auto problem = refuse(text, file)) return {std::nullopt, {std::move(*problem)}, {}};
  collector out(file);
  toml::table root;
  try {
    root = toml::parse(text, file);
  } catch (const toml::parse_error& e) {
    return {std::nullopt, {{"R004", std::string(e.description()), place_text(e.source()), "TOML 1.0", {}, false}}, {}};
  }
  for (const auto& one : overrides)
    if (auto problem = apply_override(root, one)) out.add(std::move(*problem));
  auto r = read_tree(root, out);
  std::optional<recipe> value;
  if (out.sound()) value = std::move(r);
  return {std::move(value), std::move(out.problems), std::move(out.values)};
}

}  // namespace isthmus
