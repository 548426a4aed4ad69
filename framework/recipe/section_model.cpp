#include "framework/models/layer_pairs.hpp"
#include "framework/recipe/nearest.hpp"
#include "framework/recipe/section_reader.hpp"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>

namespace isthmus {

namespace {

/// Names that may stand for a sequence mixer, or for a channel mixer; a variant without a kind, which is told of where it stands, for either.
std::vector<std::string> names_for(const model_config& model, bool mixes_sequence) {
  std::vector<std::string> names;
  for (const auto* kind : model.catalog->kinds())
    if (kind->mixes_sequence == mixes_sequence) names.emplace_back(kind->name);
  for (const auto& variant : model.variants)
    if (const auto* kind = model.catalog->find(variant.kind); variant.kind.empty() || kind->mixes_sequence == mixes_sequence)
      names.push_back(variant.name);
  names.emplace_back("none");
  return names;
}

std::string list_of(const std::vector<std::string>& names) { return fmt::format("\"{}\"", fmt::join(names, "\", \"")); }

std::string did_you_mean(const std::string& word, const std::vector<std::string>& names) {
  const auto nearest = nearest_name(word, names);
  return nearest.empty() ? "" : fmt::format("did you mean \"{}\"?", nearest);
}

}  // namespace

void section_reader::layers(model_config& model) {
  variants(model);
  if (const auto word = one_of("channel_mixer", names_for(model, false))) model.channel = *word;
  const auto* list = find("layers");
  const auto* pattern = find("pattern");
  const auto* count = find("n_layers");
  if (list != nullptr && (pattern != nullptr || count != nullptr))
    out_.wrong("R017", path_, "model.layers stands beside model.pattern or model.n_layers", place_text(list->source()),
               "either layers, or pattern and n_layers");
  else if (list != nullptr)
    model.layers = entries(*list, "layers", model);
  else if (pattern != nullptr || count != nullptr)
    model.layers = repeated(pattern, count, model);
  const auto* said = list != nullptr ? list : pattern;
  out_.values.push_back({path_ + ".layers", toml_text(model.layers), said != nullptr ? place_text(said->source()) : "default",
                         "one entry a layer: \"mixer\" or \"mixer/channel mixer\"; or pattern and n_layers"});
  keep("channel_mixer", toml_text(model.channel), "of layers that name none");
}

/// The entries of a list of layers, each of them known.
std::vector<std::string> section_reader::entries(const toml::node& node, std::string_view key, const model_config& model) {
  const auto mixers = names_for(model, true), channels = names_for(model, false);
  std::vector<std::string> out;
  const auto* list = node.as_array();
  if (list == nullptr) {
    bad_type(node, key, "a list of " + list_of(mixers));
    return out;
  }
  if (list->empty() || list->size() > layers_max) {
    out_.wrong("R014", path_, fmt::format("\"{}.{}\" has {} entries", path_, key, list->size()), place_text(node.source()),
               fmt::format("1 to {}", layers_max));
    return out;
  }
  for (const auto& entry : *list) {
    const auto* word = entry.as_string();
    const auto names = word != nullptr ? names_of(word->get(), model.channel) : layer_names{};
    const auto refuse = [&](const std::string& name, const std::vector<std::string>& allowed) {
      out_.wrong("R016", path_, fmt::format("\"{}.{}\" holds {}", path_, key, shown(entry)), place_text(entry.source()),
                 "a list of " + list_of(mixers) + ", each alone or with / and " + list_of(channels), did_you_mean(name, allowed));
    };
    if (word == nullptr || std::ranges::find(mixers, names.mixer) == mixers.end())
      refuse(names.mixer, mixers);
    else if (std::ranges::find(channels, names.channel) == channels.end())
      refuse(names.channel, channels);
    else
      out.push_back(word->get());
  }
  return out;
}

std::vector<std::string> section_reader::repeated(const toml::node* pattern, const toml::node* count, const model_config& model) {
  if (pattern == nullptr || count == nullptr) {
    const auto& there = pattern != nullptr ? *pattern : *count;
    out_.wrong("R017", path_, "model.pattern and model.n_layers only mean something together", place_text(there.source()),
               "layers, or pattern and n_layers");
    return {};
  }
  const auto once = entries(*pattern, "pattern", model);
  const auto* layers = count->as_integer();
  const auto allowed = fmt::format("an integer from 1 to {}", layers_max);
  std::vector<std::string> out;
  if (layers == nullptr)
    bad_type(*count, "n_layers", allowed);
  else if (layers->get() < 1 || layers->get() > static_cast<std::int64_t>(layers_max))
    bad_value(*count, "n_layers", allowed);
  else if (!once.empty())
    for (std::size_t i = 0; i < static_cast<std::size_t>(layers->get()); ++i) out.push_back(once[i % once.size()]);
  return out;
}

/// What this table says of an option; nothing when it does not, or says it wrongly.
std::optional<double> section_reader::option(const option_field& field) {
  if (field.type == option_type::real) return number(field.key, field.min, field.max);
  if (field.type == option_type::word) {
    const std::vector<std::string> words(field.words.begin(), field.words.end());
    const auto word = one_of(field.key, words);
    return word ? std::optional(static_cast<double>(std::ranges::find(words, *word) - words.begin())) : std::nullopt;
  }
  const auto* node = find(field.key);
  if (node == nullptr) return std::nullopt;
  if (const auto* flag = node->as_boolean(); flag != nullptr && field.type == option_type::flag) return flag->get() ? 1 : 0;
  const auto* integer = node->as_integer();
  if (integer == nullptr || field.type == option_type::flag)
    bad_type(*node, field.key, allowed_text(field));
  else if (!allows(field, static_cast<double>(integer->get())))
    bad_value(*node, field.key, allowed_text(field));
  else
    return static_cast<double>(integer->get());
  return std::nullopt;
}

void section_reader::layer_options(model_config& model) {
  for (const auto* field : model.catalog->options()) {
    const double value = option(*field).value_or(field->initial);
    model.options[std::string(field->key)] = value;
    keep(field->key, option_text(*field, value), field->help);
  }
}

/// [[model.variants]]: a name, a kind, and options of that kind.
void section_reader::variants(model_config& model) {
  const auto* node = find("variants");
  if (node == nullptr) return;
  const auto* list = node->as_array();
  if (list == nullptr || list->size() > variants_max ||
      !std::all_of(list->begin(), list->end(), [](const toml::node& n) { return n.is_table(); })) {
    bad_type(*node, "variants", fmt::format("up to {} [[model.variants]] tables", variants_max));
    return;
  }
  std::vector<std::string> kinds;
  for (const auto* kind : model.catalog->kinds()) kinds.emplace_back(kind->name);
  for (std::size_t i = 0; i < list->size(); ++i) variant(*(*list)[i].as_table(), fmt::format("{}.variants.{}", path_, i), kinds, model);
}

/// One of them. Where its kind is missing or wrong it is kept without, so that layers may name it.
void section_reader::variant(const toml::table& table, const std::string& path, const std::vector<std::string>& kinds,
                             model_config& model) {
  out_.seen(path, place_text(table.source()));
  section_reader reader(out_, &table, path);
  layer_variant made;
  reader.text("name", made.name, text_rule::name, "by which model.layers names it");
  const bool taken = std::ranges::find(kinds, made.name) != kinds.end() || made.name == "none" ||
                     (!made.name.empty() && std::ranges::find(model.variants, made.name, &layer_variant::name) != model.variants.end());
  if (taken)
    out_.wrong("R019", path_, fmt::format("\"{}.name\" is \"{}\", which is taken", path, made.name), out_.place_of(path + ".name"),
               "a name that no kind and no other variant has");
  if (reader.find("kind") == nullptr)
    out_.wrong("R018", path_, fmt::format("\"{}.kind\" is missing", path), out_.place_of(path), list_of(kinds));
  if (const auto word = reader.one_of("kind", kinds)) {
    made.kind = *word;
    std::vector<std::string> keys{"name", "kind"};
    for (const auto& field : model.catalog->find(*word)->options) {
      keys.emplace_back(field.key);
      if (const auto value = reader.option(field)) {
        made.options[std::string(field.key)] = *value;
        reader.keep(field.key, option_text(field, *value), field.help);
      }
    }
    reader.finish(keys);
  }
  if (!taken && !made.name.empty()) model.variants.push_back(std::move(made));
}

}  // namespace isthmus
