#include "framework/recipe/section_reader.hpp"

#include "framework/recipe/nearest.hpp"
#include "framework/recipe/overrides.hpp"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <sstream>

namespace isthmus {

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

namespace {

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

}  // namespace

void section_reader::integer(const char* key, std::int64_t& value, std::int64_t min, std::int64_t max, const char* help) {
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

void section_reader::real(const char* key, double& value, double min, double max, const char* help) {
  if (const auto found = number(key, min, max)) value = *found;
  keep(key, toml_text(value), help);
}

void section_reader::real(const char* key, float& value, double min, double max, const char* help) {
  if (const auto found = number(key, min, max)) value = static_cast<float>(*found);
  keep(key, toml_text(value), help);
}

void section_reader::flag(const char* key, bool& value, const char* help) {
  if (const auto* node = find(key)) {
    if (const auto* found = node->as_boolean())
      value = found->get();
    else
      bad_type(*node, key, "true or false");
  }
  keep(key, toml_text(value), help);
}

void section_reader::text(const char* key, std::string& value, text_rule rule, const char* help) {
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

void section_reader::texts(const char* key, std::vector<std::string>& value, text_rule rule, std::size_t most, const char* help) {
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

void section_reader::choice(const char* key, std::string& value, std::initializer_list<const char*> allowed, const char* help) {
  if (const auto word = one_of(key, {allowed.begin(), allowed.end()})) value = *word;
  keep(key, toml_text(value), help);
}

void section_reader::word(const char* key, std::size_t& place, std::initializer_list<const char*> words, const char* help) {
  if (const auto found = one_of(key, {words.begin(), words.end()}))
    place = static_cast<std::size_t>(std::ranges::find(words, *found) - words.begin());
  keep(key, toml_text(std::string(words.begin()[place])), help);
}

void section_reader::finish(const std::vector<std::string>& section_keys) {
  if (table_ == nullptr) return;
  for (const auto& [key, node] : *table_) {
    const std::string name{key.str()};
    if (asked_.contains(name)) continue;
    out_.wrong("R012", path_, fmt::format("unknown key \"{}.{}\"", path_, name),
               place_text(key.source().begin ? key.source() : node.source()), fmt::format("keys here: {}", fmt::join(section_keys, ", ")),
               out_.suggestion(path_.substr(0, path_.find('.')), name));
  }
}

const toml::node* section_reader::find(std::string_view key) {
  asked_.insert(std::string(key));
  const auto* node = table_ != nullptr ? table_->get(key) : nullptr;
  if (node != nullptr) out_.seen(path_ + "." + std::string(key), place_text(node->source()));
  return node;
}

void section_reader::keep(std::string_view key, std::string value, std::string_view help) {
  const auto* node = table_ != nullptr ? table_->get(key) : nullptr;
  out_.values.push_back(
      {fmt::format("{}.{}", path_, key), std::move(value), node != nullptr ? place_text(node->source()) : "default", std::string(help)});
}

void section_reader::bad_type(const toml::node& node, std::string_view key, const std::string& allowed) {
  std::string help;
  if (const auto* real = node.as_floating_point(); real != nullptr && allowed.starts_with("an integer") && std::isfinite(real->get()))
    help = "write it without point and exponent, as in 1_000_000";
  out_.wrong("R013", path_, fmt::format("\"{}.{}\" is {} ({})", path_, key, kind_of(node), shown(node)), place_text(node.source()), allowed,
             help);
}

void section_reader::bad_value(const toml::node& node, std::string_view key, const std::string& allowed) {
  out_.wrong("R014", path_, fmt::format("\"{}.{}\" is {}", path_, key, shown(node)), place_text(node.source()), allowed);
}

std::optional<double> section_reader::number(std::string_view key, double min, double max) {
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

std::optional<std::string> section_reader::one_of(std::string_view key, const std::vector<std::string>& allowed) {
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

std::vector<std::string> section_reader::strings(const toml::array& list, std::string_view key, text_rule rule) {
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

}  // namespace isthmus
