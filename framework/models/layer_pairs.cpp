#include "framework/models/layer_pairs.hpp"

#include "framework/core/error.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace isthmus {

namespace {

/// Each option that is said must be one that a kind has, and in its range.
void check_options(const layer_catalog& catalog, const layer_options& options, const std::string& where, model_faults& faults) {
  for (const auto& [key, value] : options) {
    const auto* field = catalog.find_option(key);
    if (field == nullptr)
      faults.add({errc::recipe_invalid, fmt::format("{}.{} is no option of any kind of layer", where, key)});
    else if (!allows(*field, value))
      faults.add({errc::recipe_invalid, fmt::format("{}.{} is {}: it must be {}", where, key, value, allowed_text(*field))});
  }
}

/// A kind, or a variant of one, by name; nothing for "none". Whether its options fit each other is not asked.
expected<std::optional<layer_shape>> shape_of(const model_config& c, const std::string& name, bool mixes_sequence) {
  if (name == "none") return std::optional<layer_shape>{};
  const auto variant = std::ranges::find(c.variants, name, &layer_variant::name);
  const std::string& kind_name = variant != c.variants.end() ? variant->kind : name;
  const auto* kind = c.catalog->find(kind_name);
  const char* part = mixes_sequence ? "sequence mixer" : "channel mixer";
  if (kind == nullptr || kind->mixes_sequence != mixes_sequence)
    return fail(errc::recipe_invalid, fmt::format("model.layers names \"{}\", which is no {}", name, part));
  layer_shape shape{kind,
                    {},
                    c.d_model,
                    static_cast<std::int64_t>(c.layers.size()),
                    static_cast<double>(c.norm_eps),
                    variant != c.variants.end() ? "model.variants." + name : "model"};
  for (const auto& field : kind->options) {
    double value = field.initial;
    if (const auto said = c.options.find(field.key); said != c.options.end()) value = said->second;
    if (variant != c.variants.end())
      if (const auto said = variant->options.find(field.key); said != variant->options.end()) value = said->second;
    shape.options.emplace(field.key, value);
  }
  return std::optional(std::move(shape));
}

}  // namespace

double model_config::option(std::string_view key) const {
  if (const auto said = options.find(key); said != options.end()) return said->second;
  const auto* field = catalog->find_option(key);
  ensure(field != nullptr, "model_config: no kind of layer has an option of that name");
  return field->initial;
}

norm_names norm_names_of(const model_config& c) {
  if (!c.encoder) return {"input_layernorm", "pre_ff_layernorm"};
  return {c.encoder->mixer_residual ? "post_mixer_layernorm" : "", "post_ff_layernorm"};
}

layer_names names_of(const std::string& entry, const std::string& default_channel) {
  const auto slash = entry.find('/');
  if (slash == std::string::npos) return {entry, default_channel};
  return {entry.substr(0, slash), entry.substr(slash + 1)};
}

void model_faults::add(const error& fault) {
  if (std::ranges::find(all_, fault.message, &error::message) == all_.end()) all_.push_back(fault);
}

std::vector<layer_pair> resolve_layers(const model_config& c, model_faults& faults) {
  check_options(*c.catalog, c.options, "model", faults);
  for (const auto& variant : c.variants) check_options(*c.catalog, variant.options, "model.variants." + variant.name, faults);
  std::vector<layer_pair> layers;
  if (!faults.all().empty()) return layers;  // what is out of its range fits nothing
  const auto add = [&](expected<std::optional<layer_shape>> found, std::optional<layer_shape>& shape) {
    if (!found) return faults.add(found.error());
    shape = std::move(*found);
    if (!shape) return;
    if (const auto ok = shape->kind->check(*shape); !ok) faults.add(ok.error());
  };
  for (const auto& entry : c.layers) {
    const auto names = names_of(entry, c.channel);
    auto& layer = layers.emplace_back();
    add(shape_of(c, names.mixer, true), layer.mixer);
    add(shape_of(c, names.channel, false), layer.channel);
  }
  return layers;
}

expected<std::vector<layer_pair>> resolve_layers(const model_config& c) {
  model_faults faults;
  auto layers = resolve_layers(c, faults);
  if (!faults.all().empty()) return unexpected{faults.all().front()};
  return layers;
}

}  // namespace isthmus
