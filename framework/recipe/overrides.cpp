#include "framework/recipe/overrides.hpp"

#include "framework/recipe/collector.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string_view>

namespace isthmus {

namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> out;
  std::size_t begin = 0;
  for (auto end = text.find(separator); end != std::string::npos; begin = end + 1, end = text.find(separator, begin))
    out.push_back(text.substr(begin, end - begin));
  out.push_back(text.substr(begin));
  return out;
}

/// The list entry that a path component names: by index, or by the entry's "name".
toml::table* list_entry(toml::array& list, const std::string& component) {
  if (!component.empty() && component.size() < 6 &&
      std::all_of(component.begin(), component.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    const auto index = static_cast<std::size_t>(std::stoul(component));
    return index < list.size() ? list[index].as_table() : nullptr;
  }
  for (auto& entry : list)
    if (auto* table = entry.as_table();
        table != nullptr && table->get("name") != nullptr && table->get("name")->value_or(std::string{}) == component)
      return table;
  return nullptr;
}

template <class Number, class... Base>
bool overflows(std::string_view text, Base... base) {
  Number value{};
  const auto [stop, status] = std::from_chars(text.data(), text.data() + text.size(), value, base...);
  return status == std::errc::result_out_of_range && stop == text.data() + text.size();
}

/// A number in TOML's spelling that does not fit 64 bits, which the parser gives up on as on any other bare word.
bool is_beyond_64_bits(std::string text) {
  std::erase(text, '_');
  std::string_view rest = text;
  if (rest.starts_with("0x")) return overflows<std::int64_t>(rest.substr(2), 16);
  if (rest.starts_with("0o")) return overflows<std::int64_t>(rest.substr(2), 8);
  if (rest.starts_with("0b")) return overflows<std::int64_t>(rest.substr(2), 2);
  if (rest.starts_with('+')) rest.remove_prefix(1);
  return overflows<std::int64_t>(rest) || overflows<double>(rest);
}

/// A table of one entry, "value". Bare words are text (run.name=test); empty when it is no UTF-8.
toml::table parse_value(const std::string& value, const std::string& place) {
  for (const auto& spelling : {value, toml_text(value)}) {
    if (refuse_characters(spelling, place)) continue;
    try {
      if (auto table = toml::parse("value = " + spelling, place); table.size() == 1) return table;
    } catch (const toml::parse_error&) {}
  }
  return {};
}

}  // namespace

std::optional<recipe_problem> apply_override(toml::table& root, const std::string& text) {
  const auto equals = text.find('=');
  const auto told = names_secret(text.substr(0, equals)) ? text.substr(0, equals) + "=..." : text;
  const auto place = fmt::format("{}`{}`", override_prefix, told.size() > 100 ? told.substr(0, 97) + "..." : told);
  const auto refused = [&](std::string message, std::string allowed, std::string help) {
    return recipe_problem{"R020", std::move(message), place, std::move(allowed), std::move(help), false};
  };
  const auto path = split(text.substr(0, equals), '.');
  if (equals == std::string::npos || path.size() < 2 || path.size() > 3 ||
      std::any_of(path.begin(), path.end(), [](const auto& p) { return p.empty(); })) {
    return refused(fmt::format("{} is no override", place.substr(override_prefix.size())), "section.key=value",
                   "as in train.context=512, sites.0.devices=2 or sites.alpha.devices=2");
  }
  if (auto problem = refuse_shape(text.substr(equals + 1), {})) {
    problem->place = place;
    return problem;
  }
  if (is_beyond_64_bits(text.substr(equals + 1)))
    return recipe_problem{"R004", "the override's number does not fit 64 bits", place, "TOML 1.0", "in quotes it is text", false};
  auto parsed = parse_value(text.substr(equals + 1), place);
  if (parsed.empty()) { return refused("the override's value is no text in UTF-8", "a TOML value, or a bare word", {}); }
  const bool is_list = path.size() == 3 || path[0] == "sites" || path[0] == "faults";
  if (!is_list && !root.contains(path[0])) root.insert(path[0], toml::table{});
  toml::table* target = root[path[0]].as_table();
  if (path.size() == 3) {
    auto* list = root[path[0]].as_array();
    target = list != nullptr ? list_entry(*list, path[1]) : nullptr;
  }
  if (target == nullptr) {
    return refused(fmt::format("\"{}\" names nothing in this recipe", fmt::join(path.begin(), path.end() - 1, ".")),
                   "a section, or an entry of sites or faults by index or name", {});
  }
  target->insert_or_assign(path.back(), std::move(*parsed.get("value")));
  return std::nullopt;
}

}  // namespace isthmus
