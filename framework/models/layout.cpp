#include "framework/models/hybrid_model.hpp"
#include "framework/models/layer_pairs.hpp"
#include "framework/models/medusa.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace isthmus {

namespace {

void check_around_layers(const model_config& c, model_faults& faults) {
  const auto wrong = [&](std::string message) { faults.add({errc::recipe_invalid, std::move(message)}); };
  const auto bad = [&](std::string_view key, std::int64_t found, std::string_view allowed) {
    wrong(fmt::format("model.{} is {}: {}", key, found, allowed));
  };
  for (const auto& [key, value] : {std::pair{"vocabulary", c.vocabulary}, {"d_model", c.d_model}})
    if (value < 1 || value > (std::int64_t{1} << 24)) bad(key, value, "it must lie in 1 ... 16777216");
  if (c.layers.empty() || c.layers.size() > 1024) bad("layers", static_cast<std::int64_t>(c.layers.size()), "a model has 1 to 1024 layers");
  // 16 fp32 numbers are a cache line: tensors that one product reads together must follow each other without a gap.
  if (c.d_model % 16 != 0) bad("d_model", c.d_model, "it must be a multiple of 16");
  if (!(c.norm_eps > 0)) wrong(fmt::format("model.norm_eps is {}: it must exceed 0", c.norm_eps));
  if (!(c.z_loss >= 0 && c.z_loss <= 1)) wrong(fmt::format("model.z_loss is {}: it must lie in 0 ... 1", c.z_loss));
  if (c.medusa_heads < 0 || c.medusa_heads > medusa_heads_max)
    bad("medusa_heads", c.medusa_heads, fmt::format("it must lie in 0 ... {}", medusa_heads_max));
  if (!c.encoder) return;
  for (const auto& [key, value] : {std::pair{"encoder.positions", c.encoder->positions}, {"encoder.token_types", c.encoder->token_types}})
    if (value < 0 || value > (std::int64_t{1} << 24)) bad(key, value, "it must lie in 0 ... 16777216");
  if (c.norm != norm_kind::layer_norm) wrong("model.norm is \"rms_norm\": an encoder has LayerNorms, \"layer_norm\"");
}

void add_norm(const std::string& name, const model_config& c, tensor_list& tensors) {
  tensors.add_vector(name + ".weight", c.d_model, constant_values(1));
  if (c.norm == norm_kind::layer_norm) tensors.add_bias(name + ".bias", c.d_model);
}

void add_encoder_embeddings(const encoder_config& e, const model_config& c, tensor_list& tensors) {
  if (e.positions > 0) tensors.add("model.embed_positions.weight", {e.positions, c.d_model}, true, normal_values(0.02));
  if (e.token_types > 0) tensors.add("model.embed_types.weight", {e.token_types, c.d_model}, true, normal_values(0.02));
  add_norm("model.embed_layernorm", c, tensors);
}

void add_encoder_head(const model_config& c, tensor_list& tensors) {
  tensors.add_matrix("lm_head.dense.weight", c.d_model, c.d_model);
  tensors.add_bias("lm_head.dense.bias", c.d_model);
  add_norm("lm_head.layernorm", c, tensors);
  tensors.add_bias("lm_head.bias", c.vocabulary);
}

/// All tensors of a model, in their order.
tensor_list tensors_of(const model_config& c) {
  const auto layers = resolve_layers(c);
  if (!layers) throw contract_error(layers.error().message);
  tensor_list tensors(static_cast<std::int64_t>(c.layers.size()));
  tensors.add("model.embed_tokens.weight", {c.vocabulary, c.d_model}, true, normal_values(0.02));
  if (c.encoder) add_encoder_embeddings(*c.encoder, c, tensors);
  const auto add = [&](const std::string& prefix, const std::string& norm, const std::optional<layer_shape>& shape) {
    if (!shape) return;
    tensors.set_prefix(prefix);
    if (!norm.empty()) add_norm(norm, c, tensors);
    tensors.set_prefix(prefix + std::string(shape->kind->folder) + ".");
    shape->kind->declare(*shape, tensors);
  };
  const norm_names norms = norm_names_of(c);
  for (std::size_t i = 0; i < layers->size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    add(prefix, norms.mixer, (*layers)[i].mixer);
    add(prefix, norms.channel, (*layers)[i].channel);
  }
  tensors.set_prefix({});
  if (c.encoder)
    add_encoder_head(c, tensors);
  else
    add_norm("model.final_layernorm", c, tensors);
  if (!c.tied_head) tensors.add("lm_head.weight", {c.vocabulary, c.d_model}, true, normal_values(0.02));
  declare_medusa_heads(c, tensors);
  return tensors;
}

bool layers_see_ahead(const std::vector<layer_pair>& layers) {
  const auto ahead = [](const std::optional<layer_shape>& s) { return s && s->kind->sees_ahead && s->kind->sees_ahead(*s); };
  return std::ranges::any_of(layers, [&](const layer_pair& l) { return ahead(l.mixer) || ahead(l.channel); });
}

}  // namespace

std::vector<error> faults_of(const model_config& c) {
  model_faults faults;
  check_around_layers(c, faults);
  if (c.d_model < 1 || c.layers.empty() || c.layers.size() > 1024) return faults.all();  // what layers ask of it means nothing
  const auto wrong = [&](std::string message) { faults.add({errc::recipe_invalid, std::move(message)}); };
  model_faults of_layers;
  const auto layers = resolve_layers(c, of_layers);
  for (const auto& fault : of_layers.all()) faults.add(fault);
  if (of_layers.all().empty() && std::ranges::none_of(layers, [](const layer_pair& l) { return l.mixer || l.channel; }))
    wrong("model.layers holds \"none\" alone: a model has at least one layer that mixes something");
  if (c.medusa_heads > 0 && sees_ahead(c))
    wrong(
        fmt::format("model.medusa_heads is {}: it must be 0 where a layer sees later tokens, for such a model does not predict what "
                    "comes next",
                    c.medusa_heads));
  if (c.document_mark >= 0 && layers_see_ahead(layers))
    wrong(
        fmt::format("model.document_mark is {}: it must be -1 where a layer sees later tokens, for documents are kept apart by where "
                    "they begin alone",
                    c.document_mark));
  return faults.all();
}

expected<void> check(const model_config& c) {
  const auto faults = faults_of(c);
  if (!faults.empty()) return unexpected{faults.front()};
  return {};
}

bool sees_ahead(const model_config& c) {
  if (c.encoder) return true;
  model_faults ignored;  // a layer that sees ahead does so whatever else is wrong
  return layers_see_ahead(resolve_layers(c, ignored));
}

parameter_layout hybrid_layout(const model_config& c) { return tensors_of(c).layout(); }

void initial_weights(const model_config& config, std::uint64_t seed, std::span<float> weights) {
  const tensor_list tensors = tensors_of(config);
  const auto& layout = tensors.layout();
  ensure(static_cast<std::int64_t>(weights.size()) == layout.size, "initial_weights: an array of another layout");
  std::fill(weights.begin(), weights.end(), 0.0F);
  for (std::size_t i = 0; i < layout.slots.size(); ++i) {
    const auto& slot = layout.slots[i];
    rng random(seed, 0, i, draw::initial_weights);
    tensors.beginning(i)(random, weights.subspan(static_cast<std::size_t>(slot.offset), static_cast<std::size_t>(slot.count)));
  }
  start_medusa_vocabularies(config, layout, weights);
}

}  // namespace isthmus
