#include "framework/formats/hf_config.hpp"
#include "framework/models/export.hpp"
#include "framework/models/import.hpp"
#include "framework/models/layer_pairs.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace isthmus {

namespace {

using nlohmann::json;

std::string kind_of(const std::optional<layer_shape>& shape) { return shape ? std::string(shape->kind->name) : "none"; }

/// An option as a kind has it, or what it stands for where the kind knows no such option.
double value_of(const layer_shape& shape, std::string_view key, double otherwise) {
  const auto at = shape.options.find(key);
  return at != shape.options.end() ? at->second : otherwise;
}

/// The options that change what a layer computes, each spelt in one way.
layer_options meaning_of(const layer_shape& shape) {
  layer_options out = shape.options;
  for (const char* key : {"ssm_chunk", "scan_chunk"}) out.erase(key);
  if (shape.kind->name == "attention") {
    const double width = out.at("head_dim");
    if (out.at("rotary_dim") == 0) out.at("rotary_dim") = width;
    if (out.at("attention_scale") == 0) out.at("attention_scale") = 1 / std::sqrt(width);
    if (out.at("rope_factor") == 1 || out.at("rotary") == 0)
      for (const char* key : {"rope_low", "rope_high", "rope_context"}) out.erase(key);
    if (out.at("rotary") == 0)
      for (const char* key : {"rope_theta", "rope_factor", "rotary_dim"}) out.erase(key);
  }
  if (shape.kind->name == "mamba1" && out.at("scan_rank") == 0) out.at("scan_rank") = static_cast<double>((shape.d_model + 15) / 16);
  return out;
}

struct architecture {
  const char *name, *type;
  std::vector<std::string> mixers;
  const char* channel;
};

/// The first one that has every layer of the model.
expected<architecture> architecture_of(const std::vector<layer_pair>& layers) {
  std::vector<architecture> left{{"LlamaForCausalLM", "llama", {"attention"}, "swiglu"},
                                 {"MambaForCausalLM", "mamba", {"mamba1"}, "none"},
                                 {"Mamba2ForCausalLM", "mamba2", {"mamba2"}, "none"},
                                 {"BambaForCausalLM", "bamba", {"mamba2", "attention"}, "swiglu"}};
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::string mixer = kind_of(layers[i].mixer), channel = kind_of(layers[i].channel);
    std::erase_if(left,
                  [&](const architecture& a) { return std::ranges::find(a.mixers, mixer) == a.mixers.end() || channel != a.channel; });
    if (left.empty())
      return fail(
          errc::unsupported,
          fmt::format("layer {} is {}/{}, which no architecture of Transformers has{}; written are attention/swiglu (Llama, Mistral), "
                      "mamba1/none (Mamba), mamba2/none (Mamba2), mamba2/swiglu with attention/swiglu (Bamba)",
                      i, mixer, channel, i > 0 ? " beside the layers before it" : ""));
  }
  architecture found = left.front();
  if (found.type == std::string_view("llama") && value_of(*layers.front().mixer, "attention_window", 0) != 0)
    found = {"MistralForCausalLM", "mistral", {"attention"}, "swiglu"};
  return found;
}

/// A float as people write it, "1e-05", that is the same float again.
json shortest(float value) { return json::parse(fmt::format("{}", value)); }

class config_writer {
public:
  config_writer(const model_config& model, const std::vector<layer_pair>& layers, const architecture& what)
      : model_(model), layers_(layers), what_(what), type_(what.type) {}

  expected<json> write(const export_facts& facts, dtype type) {
    ensure(type == dtype::f32 || type == dtype::bf16 || type == dtype::f16, "config_json_of: another type");
    out_["architectures"] = {what_.name};
    out_["model_type"] = what_.type;
    out_["vocab_size"] = model_.vocabulary;
    out_["hidden_size"] = model_.d_model;
    out_["num_hidden_layers"] = layers_.size();
    out_["tie_word_embeddings"] = model_.tied_head;
    out_["torch_dtype"] = type == dtype::f32 ? "float32" : type == dtype::bf16 ? "bfloat16" : "float16";
    out_["bos_token_id"] = facts.begin_token ? json(*facts.begin_token) : json(nullptr);
    out_["eos_token_id"] = facts.end_token ? json(*facts.end_token) : json(nullptr);
    out_["pad_token_id"] = nullptr;
    const bool mamba = type_ == "mamba" || type_ == "mamba2";
    out_[mamba ? "layer_norm_epsilon" : "rms_norm_eps"] = shortest(model_.norm_eps);
    if (facts.context > 0 && !mamba) out_["max_position_embeddings"] = facts.context;
    if (const layer_shape* channel = first("swiglu")) {
      out_["intermediate_size"] = channel->integer("ffn_hidden");
      out_["hidden_act"] = "silu";
    }
    const layer_shape *attention = first("attention"), *mamba1 = first("mamba1"), *mamba2 = first("mamba2");
    if (attention != nullptr) add_attention(*attention);
    if (mamba1 != nullptr)
      if (auto ok = add_mamba1(*mamba1); !ok) return ok.failure();
    if (mamba2 != nullptr)
      if (auto ok = add_mamba2(*mamba2); !ok) return ok.failure();
    if (type_ == "bamba") add_places(attention != nullptr);
    return std::move(out_);
  }

private:
  const layer_shape* first(std::string_view kind) const {
    for (const auto& layer : layers_)
      for (const auto* part : {&layer.mixer, &layer.channel})
        if (*part && (*part)->kind->name == kind) return &**part;
    return nullptr;
  }

  void add_attention(const layer_shape& s) {
    const double width = s.real("head_dim"), theta = s.real("rope_theta"), rotated = s.real("rotary_dim");
    out_["num_attention_heads"] = s.integer("n_heads");
    out_["num_key_value_heads"] = s.integer("n_kv_heads");
    out_["head_dim"] = s.integer("head_dim");
    json rope{{"rope_type", "default"}};
    if (s.real("rope_factor") != 1)
      rope = {{"rope_type", "llama3"},
              {"factor", s.real("rope_factor")},
              {"low_freq_factor", s.real("rope_low")},
              {"high_freq_factor", s.real("rope_high")},
              {"original_max_position_embeddings", s.integer("rope_context")}};
    if (type_ == "bamba") {  // rotates half a head unless it is told here
      rope["rope_theta"] = theta;
      rope["partial_rotary_factor"] = rotated == 0 ? 1 : rotated / width;
      out_["rope_parameters"] = rope;
    } else {  // as all versions of Transformers read it
      out_["rope_theta"] = theta;
      if (s.real("rope_factor") != 1) out_["rope_scaling"] = rope;
    }
    if (type_ == "mistral")
      out_["sliding_window"] = static_cast<std::int64_t>(value_of(s, "attention_window", 0));
    else
      out_["attention_bias"] = value_of(s, "qkv_bias", 0) != 0;
  }

  /// Both Mambas are as wide as a whole multiple of the model.
  expected<std::int64_t> expansion(const layer_shape& s) const {
    const std::int64_t inner = s.integer("ssm_inner");
    if (inner % model_.d_model == 0) return inner / model_.d_model;
    return fail(errc::unsupported, fmt::format("{}: ssm_inner is {}, and {} has only whole multiples of d_model = {}", s.kind->name, inner,
                                               what_.name, model_.d_model));
  }

  expected<void> add_mamba1(const layer_shape& s) {
    const auto expand = expansion(s);
    if (!expand) return expand.failure();
    out_["expand"] = *expand;
    out_["intermediate_size"] = s.integer("ssm_inner");
    out_["state_size"] = s.integer("scan_state");
    out_["conv_kernel"] = s.integer("conv_width");
    out_["time_step_rank"] = s.integer("scan_rank") != 0 ? s.integer("scan_rank") : (s.d_model + 15) / 16;
    out_["use_bias"] = value_of(s, "ssm_bias", 0) != 0;
    out_["use_conv_bias"] = true;
    out_["hidden_act"] = "silu";
    return {};
  }

  expected<void> add_mamba2(const layer_shape& s) {
    const auto expand = expansion(s);
    if (!expand) return expand.failure();
    const bool bamba = type_ == "bamba";
    const auto put = [&](const char* bambas, const char* mambas, json value) { out_[bamba ? bambas : mambas] = std::move(value); };
    put("mamba_expand", "expand", *expand);
    put("mamba_n_heads", "num_heads", s.integer("ssm_inner") / s.integer("ssm_head_dim"));
    put("mamba_d_head", "head_dim", s.integer("ssm_head_dim"));
    put("mamba_n_groups", "n_groups", s.integer("ssm_groups"));
    put("mamba_d_state", "state_size", s.integer("ssm_state"));
    put("mamba_d_conv", "conv_kernel", s.integer("conv_width"));
    put("mamba_chunk_size", "chunk_size", s.integer("ssm_chunk"));
    put("mamba_proj_bias", "use_bias", value_of(s, "ssm_bias", 0) != 0);
    put("mamba_conv_bias", "use_conv_bias", true);
    const double low = value_of(s, "ssm_dt_min", 0), high = value_of(s, "ssm_dt_max", 0);
    if (low != 0 || high != 0) out_["time_step_limit"] = {low, high != 0 ? json(high) : json{{"__float__", "Infinity"}}};
    if (!bamba) out_["hidden_act"] = "silu";
    return {};
  }

  void add_places(bool attends) {
    json places = json::array();
    for (std::size_t i = 0; i < layers_.size(); ++i)
      if (kind_of(layers_[i].mixer) == "attention") places.push_back(i);
    out_["attn_layer_indices"] = places;
    if (!attends) out_["num_attention_heads"] = out_["num_key_value_heads"] = 1;  // of no layer
  }

  const model_config& model_;
  const std::vector<layer_pair>& layers_;
  const architecture& what_;
  std::string_view type_;
  json out_;
};

/// That a part read from the config is the one that was written.
expected<void> compare(const std::optional<layer_shape>& ours, const std::optional<layer_shape>& theirs, std::size_t layer,
                       const char* name) {
  ensure(kind_of(ours) == kind_of(theirs), "config_json_of: another kind of layer");
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

expected<void> read_again(const std::string& text, const model_config& model, const std::vector<layer_pair>& layers, const char* name) {
  const auto read = read_hf_config(text, name);
  if (!read) return read.failure();
  const auto back = config_from(*read, name);
  if (!back) return back.failure();
  const auto theirs = resolve_layers(*back);
  if (!theirs) return theirs.failure();
  ensure(theirs->size() == layers.size() && back->tied_head == model.tied_head && back->norm_eps == model.norm_eps,
         "config_json_of: a config that says something else");
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (auto ok = compare(layers[i].mixer, (*theirs)[i].mixer, i, name); !ok) return ok;
    if (auto ok = compare(layers[i].channel, (*theirs)[i].channel, i, name); !ok) return ok;
  }
  return {};
}

}  // namespace

expected<std::string> config_json_of(const model_config& model, const export_facts& facts, dtype type) {
  const auto layers = resolve_layers(model);
  if (!layers) return layers.failure();
  if (model.norm != norm_kind::rms_norm)
    return fail(errc::unsupported, "the model has LayerNorms, and the architectures that are written have RMS norms");
  const auto what = architecture_of(*layers);
  if (!what) return what.failure();
  auto written = config_writer(model, *layers, *what).write(facts, type);
  if (!written) return written.failure();
  std::string text = written->dump(2) + "\n";
  if (auto ok = read_again(text, model, *layers, what->name); !ok) return ok.failure();
  return text;
}

}  // namespace isthmus
