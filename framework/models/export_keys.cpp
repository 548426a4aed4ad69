#include "framework/models/export_parts.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace isthmus {

namespace {

using nlohmann::json;

class config_writer {
public:
  config_writer(const architecture& what, const model_config& model, std::span<const layer_pair> layers)
      : model_(model), layers_(layers), what_(what), type_(what.type) {}

  expected<json> write(const export_facts& facts, dtype type) {
    const bool mamba = type_ == "mamba" || type_ == "mamba2";
    out_ = common_keys(what_, model_, facts, type);
    out_[mamba || type_ == "nemotron_h" ? "layer_norm_epsilon" : "rms_norm_eps"] = shortest(model_.norm_eps);
    if (facts.context > 0 && !mamba) out_["max_position_embeddings"] = facts.context;
    add_channels();
    if (const layer_shape* attention = first("attention")) add_attention(*attention);
    if (const layer_shape* mamba1 = first("mamba1"))
      if (auto ok = add_mamba1(*mamba1); !ok) return ok.failure();
    if (const layer_shape* mamba2 = first("mamba2"))
      if (auto ok = add_mamba2(*mamba2); !ok) return ok.failure();
    if (type_ == "granitemoehybrid" && first("mamba2") == nullptr) {  // of no layer; the class divides by its own ones
      out_["mamba_expand"] = out_["mamba_n_heads"] = 1;
      out_["mamba_d_head"] = model_.d_model;
    }
    if (auto ok = add_places(); !ok) return ok.failure();
    return std::move(out_);
  }

private:
  const layer_shape* first(std::string_view kind) const { return first_of_kind(layers_, kind); }

  void add_channels() {
    const layer_shape *swiglu = first("swiglu"), *mlp = first("mlp"), *moe = first("moe");
    const layer_shape *dense = swiglu != nullptr ? swiglu : mlp, *any = moe != nullptr ? moe : dense;
    if (any == nullptr) return;
    out_[type_ == "nemotron_h" ? "mlp_hidden_act" : "hidden_act"] = activation_word(*any);
    if (dense != nullptr) out_["intermediate_size"] = dense->integer("ffn_hidden");
    // Mistral has none; Nemotron-H's is not read: a layer that has them is refused by its name.
    if (mlp != nullptr && type_ != "mistral" && type_ != "nemotron_h") out_["mlp_bias"] = mlp->flag("ffn_bias");
    if (type_ == "granitemoehybrid") {  // its MLP without experts is that beside them
      if (dense != nullptr) out_["shared_intermediate_size"] = dense->integer("ffn_hidden");
      out_["num_local_experts"] = 0;
    }
    if (type_ == "jamba") out_["num_experts"] = 1;
    if (moe != nullptr) add_experts(*moe);
  }

  void add_experts(const layer_shape& s) {
    out_["num_experts_per_tok"] = s.integer("moe_active");
    out_[type_ == "nemotron_h" ? "n_routed_experts" : type_ == "jamba" ? "num_experts" : "num_local_experts"] = s.integer("moe_experts");
    out_[type_ == "nemotron_h" ? "moe_intermediate_size" : "intermediate_size"] = s.integer("moe_hidden");
    const std::int64_t shared = std::max<std::int64_t>(1, s.integer("moe_shared_hidden"));  // neither class goes without
    if (type_ == "granitemoehybrid") out_["shared_intermediate_size"] = shared;
    if (type_ != "nemotron_h") return;
    out_["moe_shared_expert_intermediate_size"] = shared;
    out_["n_shared_experts"] = out_["n_group"] = out_["topk_group"] = 1;
    out_["norm_topk_prob"] = true;
    out_["routed_scaling_factor"] = s.real("moe_scale");
  }

  void add_attention(const layer_shape& s) {
    out_["num_attention_heads"] = s.integer("n_heads");
    out_["num_key_value_heads"] = s.integer("n_kv_heads");
    out_["head_dim"] = s.integer("head_dim");
    if (type_ == "mistral" || type_ == "mixtral")
      out_["sliding_window"] = s.integer("attention_window") != 0 ? json(s.integer("attention_window")) : json(nullptr);
    else if (type_ != "jamba" && type_ != "nemotron_h")
      out_["attention_bias"] = s.flag("qkv_bias");
    if (type_ == "granitemoehybrid") {
      out_["position_embedding_type"] = s.flag("rotary") ? json("rope") : json(nullptr);
      out_["attention_multiplier"] = s.real("attention_scale") != 0 ? s.real("attention_scale") : 1 / std::sqrt(s.real("head_dim"));
    }
    if (s.flag("rotary") && type_ != "jamba" && type_ != "nemotron_h") add_positions(s);
  }

  void add_positions(const layer_shape& s) {
    const double width = s.real("head_dim"), rotated = s.real("rotary_dim");
    json rope{{"rope_type", "default"}};
    if (s.real("rope_factor") != 1)
      rope = {{"rope_type", "llama3"},
              {"factor", s.real("rope_factor")},
              {"low_freq_factor", s.real("rope_low")},
              {"high_freq_factor", s.real("rope_high")},
              {"original_max_position_embeddings", s.integer("rope_context")}};
    if (type_ == "bamba") {  // rotates half a head unless it is told here
      rope["rope_theta"] = s.real("rope_theta");
      rope["partial_rotary_factor"] = rotated == 0 ? 1 : rotated / width;
      out_["rope_parameters"] = rope;
    } else {  // as all versions of Transformers read it
      out_["rope_theta"] = s.real("rope_theta");
      if (s.real("rope_factor") != 1) out_["rope_scaling"] = rope;
    }
  }

  /// Mambas are as wide as a whole multiple of the model.
  expected<std::int64_t> expansion(const layer_shape& s) const {
    const std::int64_t inner = s.integer("ssm_inner");
    if (inner % model_.d_model == 0) return inner / model_.d_model;
    return fail(errc::unsupported, fmt::format("{}: ssm_inner is {}, and {} has only whole multiples of d_model = {}", s.kind->name, inner,
                                               what_.name, model_.d_model));
  }

  expected<void> add_mamba1(const layer_shape& s) {
    const auto expand = expansion(s);
    if (!expand) return expand.failure();
    const bool jamba = type_ == "jamba";
    const auto put = [&](const char* jambas, const char* mambas, json value) { out_[jamba ? jambas : mambas] = std::move(value); };
    put("mamba_expand", "expand", *expand);
    put("mamba_d_state", "state_size", s.integer("scan_state"));
    put("mamba_d_conv", "conv_kernel", s.integer("conv_width"));
    put("mamba_dt_rank", "time_step_rank", s.integer("scan_rank") != 0 ? s.integer("scan_rank") : (s.d_model + 15) / 16);
    put("mamba_proj_bias", "use_bias", false);
    put("mamba_conv_bias", "use_conv_bias", true);
    if (jamba) return {};
    out_["intermediate_size"] = s.integer("ssm_inner");
    out_["hidden_act"] = "silu";
    return {};
  }

  expected<void> add_mamba2(const layer_shape& s) {
    const double low = s.real("ssm_dt_min"), high = s.real("ssm_dt_max");
    const std::int64_t heads = s.integer("ssm_inner") / s.integer("ssm_head_dim");
    const bool nemotron = type_ == "nemotron_h", prefixed = type_ == "bamba" || type_ == "granitemoehybrid";
    const auto put = [&](const char* prefixes, const char* mambas, json value) { out_[prefixed ? prefixes : mambas] = std::move(value); };
    if (nemotron) {
      out_["mamba_num_heads"] = heads;
      out_["mamba_head_dim"] = s.integer("ssm_head_dim");
      out_["ssm_state_size"] = s.integer("ssm_state");
      out_["time_step_min"] = low;
    } else {
      const auto expand = expansion(s);
      if (!expand) return expand.failure();
      put("mamba_expand", "expand", *expand);
      put("mamba_n_heads", "num_heads", heads);
      put("mamba_d_head", "head_dim", s.integer("ssm_head_dim"));
      put("mamba_d_state", "state_size", s.integer("ssm_state"));
      if (low != 0 || high != 0) out_["time_step_limit"] = {low, high != 0 ? json(high) : json{{"__float__", "Infinity"}}};
    }
    put("mamba_n_groups", "n_groups", s.integer("ssm_groups"));
    put("mamba_d_conv", "conv_kernel", s.integer("conv_width"));
    put("mamba_chunk_size", "chunk_size", s.integer("ssm_chunk"));
    put("mamba_proj_bias", "use_bias", s.flag("ssm_bias"));
    put("mamba_conv_bias", "use_conv_bias", true);
    if (type_ == "mamba2") out_["hidden_act"] = "silu";
    return {};
  }

  /// Which layer is what.
  expected<void> add_places() {
    const bool granite = type_ == "granitemoehybrid";
    if (type_ != "bamba" && type_ != "jamba" && !granite && type_ != "nemotron_h") return {};
    json attends = json::array(), kinds = json::array();
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const std::string mixer = kind_of(layers_[i].mixer), channel = kind_of(layers_[i].channel);
      if (mixer == "attention") attends.push_back(i);
      kinds.push_back(mixer == "attention" ? "attention" : mixer == "mamba2" ? "mamba" : channel);
    }
    if (attends.empty()) out_["num_attention_heads"] = out_["num_key_value_heads"] = 1;  // of no layer
    if (type_ == "bamba") out_["attn_layer_indices"] = attends;
    if (granite) out_["layer_types"] = kinds;
    if (type_ == "nemotron_h") out_["layers_block_type"] = kinds;
    if (type_ != "jamba") return {};
    if (auto ok = add_period("attn_layer_period", "attn_layer_offset", "attention"); !ok) return ok;
    return first("moe") != nullptr ? add_period("expert_layer_period", "expert_layer_offset", "moe") : expected<void>();
  }

  /// Jamba's layers of a kind stand at offset, offset + period, ...
  expected<void> add_period(const char* period_key, const char* offset_key, std::string_view kind) {
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < layers_.size(); ++i)
      if (kind_of(layers_[i].mixer) == kind || kind_of(layers_[i].channel) == kind) places.push_back(i);
    const std::size_t offset = places.empty() ? layers_.size() : places.front();
    const std::size_t period = places.size() > 1 ? places[1] - places[0] : layers_.size() + 1;
    bool regular = offset < period;
    for (std::size_t i = 0; i < layers_.size(); ++i)
      regular = regular && (i % period == offset) == (std::ranges::find(places, i) != places.end());
    if (!regular)
      return fail(errc::unsupported,
                  fmt::format("{} has {} in every n-th layer, this model in layers {}", what_.name, kind, fmt::join(places, ", ")));
    out_[period_key] = period;
    out_[offset_key] = offset;
    return {};
  }

  const model_config& model_;
  std::span<const layer_pair> layers_;
  const architecture& what_;
  std::string_view type_;
  json out_;
};

}  // namespace

json shortest(float value) { return json::parse(fmt::format("{}", value)); }

std::string activation_word(const layer_shape& channel) {
  if (channel.kind->name == "swiglu") return "silu";
  const std::string_view word = channel.word(channel.kind->name == "moe" ? "moe_activation" : "ffn_activation");
  return word == "gelu_tanh" ? "gelu_pytorch_tanh" : std::string(word);
}

const layer_shape* first_of_kind(std::span<const layer_pair> layers, std::string_view kind) {
  for (const auto& layer : layers)
    for (const auto* part : {&layer.mixer, &layer.channel})
      if (*part && (*part)->kind->name == kind) return &**part;
  return nullptr;
}

json common_keys(const architecture& what, const model_config& model, const export_facts& facts, dtype type) {
  ensure(type == dtype::f32 || type == dtype::bf16 || type == dtype::f16, "config_json_of: another type");
  const auto id = [](const std::optional<std::int64_t>& token) { return token ? json(*token) : json(nullptr); };
  return {{"architectures", json::array({what.name})},
          {"model_type", what.type},
          {"vocab_size", model.vocabulary},
          {"hidden_size", model.d_model},
          {"num_hidden_layers", model.layers.size()},
          {"tie_word_embeddings", model.tied_head},
          {"torch_dtype", type == dtype::f32    ? "float32"
                          : type == dtype::bf16 ? "bfloat16"
                                                : "float16"},
          {"bos_token_id", id(facts.begin_token)},
          {"eos_token_id", facts.end_tokens.size() > 1    ? json(facts.end_tokens)
                           : facts.end_tokens.size() == 1 ? json(facts.end_tokens.front())
                                                          : json(nullptr)},
          {"pad_token_id", id(facts.pad_token)}};
}

expected<json> config_keys_of(const architecture& what, const model_config& model, std::span<const layer_pair> layers,
                              const export_facts& facts, dtype type) {
  json out = common_keys(what, model, facts, type);
  if (what.type == "stripedhyena")
    add_striped_hyena_keys(model, layers, facts, out);
  else if (what.type == "m2_bert")
    add_m2_bert_keys(model, layers, out);
  else
    return config_writer(what, model, layers).write(facts, type);
  return out;
}

}  // namespace isthmus
