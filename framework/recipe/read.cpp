#include "framework/recipe/nearest.hpp"
#include "framework/recipe/overrides.hpp"
#include "framework/recipe/section_reader.hpp"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>

namespace isthmus {

namespace {

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
