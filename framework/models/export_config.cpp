#include "framework/formats/hf_config.hpp"
#include "framework/models/export_parts.hpp"
#include "framework/models/import.hpp"
#include "framework/models/import_m2_bert.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace isthmus {

namespace {

/// The options that change what a layer computes, each spelt in one way.
layer_options meaning_of(const layer_shape& shape) {
  layer_options out = shape.options;
  for (const char* key : {"ssm_chunk", "scan_chunk", "moe_balance", "moe_z_loss"}) out.erase(key);
  if (shape.kind->name == "attention") {
    const double width = out.at("head_dim");
    if (out.at("rotary_dim") == 0) out.at("rotary_dim") = width;
    if (!has_own_scale(shape)) out.at("attention_scale") = 0;
    if (out.at("rope_factor") == 1 || out.at("rotary") == 0)
      for (const char* key : {"rope_low", "rope_high", "rope_context"}) out.erase(key);
    if (out.at("rotary") == 0)
      for (const char* key : {"rope_theta", "rope_factor", "rotary_dim"}) out.erase(key);
  }
  if (shape.kind->name == "hyena" && shape.word("hyena_filter") != "explicit")
    for (const char* key : {"hyena_taps", "hyena_filters"}) out.erase(key);
  out.erase("monarch_frequency");  // training begins with it
  if (shape.kind->name == "mamba1" && out.at("scan_rank") == 0) out.at("scan_rank") = static_cast<double>((shape.d_model + 15) / 16);
  return out;
}

/// That a part read from the config is the one that was written.
expected<void> compare(const std::optional<layer_shape>& ours, const std::optional<layer_shape>& theirs, std::size_t layer,
                       std::string_view name) {
  if (kind_of(ours) != kind_of(theirs))
    return fail(errc::unsupported, fmt::format("layer {} has {}, {} has {} there", layer, kind_of(ours), name, kind_of(theirs)));
  if (!ours) return {};
  const layer_options wanted = meaning_of(*ours), found = meaning_of(*theirs);
  for (const auto& [key, value] : wanted) {
    const auto at = found.find(key);
    if (at != found.end() && std::abs(at->second - value) <= 1e-12 * std::abs(value)) continue;
    const auto& field = *std::ranges::find(ours->kind->options, key, &option_field::key);
    return fail(errc::unsupported, fmt::format("layer {}: {} is {}, {} has {} there", layer, key, option_text(field, value), name,
                                               at == found.end() ? "none" : option_text(field, at->second)));
  }
  return {};
}

expected<void> read_again(const std::string& text, const model_config& model, const std::vector<layer_pair>& layers,
                          std::string_view name) {
  const auto read = read_hf_config(text, std::string(name));
  if (!read) return read.failure();
  const auto back = config_from(*read, std::string(name));
  if (!back) return back.failure();
  const auto theirs = resolve_layers(*back);
  if (!theirs) return theirs.failure();
  ensure(theirs->size() == layers.size() && back->tied_head == model.tied_head && back->norm_eps == model.norm_eps &&
             back->norm == model.norm && back->encoder == model.encoder,
         "config_json_of: a config that says something else");
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (auto ok = compare(layers[i].mixer, (*theirs)[i].mixer, i, name); !ok) return ok;
    if (auto ok = compare(layers[i].channel, (*theirs)[i].channel, i, name); !ok) return ok;
  }
  return {};
}

/// What M2-BERT has around its layers.
expected<void> check_encoder(const model_config& model) {
  const auto cannot = [](const std::string& what) {
    return fail(errc::unsupported, fmt::format("the model is an encoder {}; of encoders M2-BERT (BertForMaskedLM) is written", what));
  };
  if (model.encoder->mixer_residual) return cannot("that adds its mixers to what they read (mixer_residual), where M2-BERT adds nothing");
  if (model.encoder->token_types < 1) return cannot("without token types, of which M2-BERT has one or more");
  if (model.norm_eps != static_cast<float>(m2_bert_norm_eps))
    return cannot(fmt::format("whose norm_eps is {}, where M2-BERT has 1e-12", model.norm_eps));
  return {};
}

/// Each part as a layer of its own: the same sums, the same tensors in the same order.
model_config parts_of(const model_config& model) {
  model_config out = model;
  out.layers.clear();
  for (const auto& entry : model.layers) {
    const auto names = names_of(entry, model.channel);
    if (names.mixer != "none") out.layers.push_back(names.mixer + "/none");
    if (names.channel != "none") out.layers.push_back("none/" + names.channel);
  }
  return out;
}

}  // namespace

expected<written_config> write_config(const model_config& model, const export_facts& facts, dtype type) {
  auto layers = resolve_layers(model);
  if (!layers) return layers.failure();
  if (model.norm != norm_kind::rms_norm && !model.encoder)
    return fail(errc::unsupported, "the model has LayerNorms, and the architectures that are written have RMS norms");
  const auto what = model.encoder ? encoder_architecture_of(*layers) : architecture_of(*layers);
  if (!what) return what.failure();
  if (model.encoder)
    if (auto ok = check_encoder(model); !ok) return ok.failure();
  written_config out{{}, what->parts_alone ? parts_of(model) : model};
  out.model.tied_head = model.tied_head && what->ties_head;
  layers = resolve_layers(out.model);
  if (!layers) return layers.failure();
  auto keys = config_keys_of(*what, out.model, *layers, facts, type);
  if (!keys) return keys.failure();
  out.text = keys->dump(2) + "\n";
  if (auto ok = read_again(out.text, out.model, *layers, what->name); !ok) return ok.failure();
  return out;
}

expected<std::string> config_json_of(const model_config& model, const export_facts& facts, dtype type) {
  auto written = write_config(model, facts, type);
  if (!written) return written.failure();
  return std::move(written->text);
}

}  // namespace isthmus
