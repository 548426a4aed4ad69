#include "framework/formats/hf_families.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

/// Families of several kinds of layers: Bamba, Granite 4, Jamba, Nemotron-H.
namespace isthmus::hf {

namespace {

using json = nlohmann::json;

enum class kind { mamba, attention, mlp, moe };

/// "mamba" or "linear_attention", "attention" or "full_attention"; "mlp" and "moe" where a family has them.
std::vector<kind> read_kinds(hf_keys& keys, hf_keys::names names, bool parts_alone) {
  const char* key = *names.begin();
  std::vector<kind> kinds;
  const auto words = keys.texts(names);
  keys.must(words.size() <= static_cast<std::size_t>(layers_max), errc::too_large, key,
            fmt::format("has {} layers, at most {} allowed", words.size(), layers_max));
  for (const std::string& word : words) {
    if (keys.failed()) return {};
    if (word == "mamba" || word == "linear_attention")
      kinds.push_back(kind::mamba);
    else if (word == "attention" || word == "full_attention")
      kinds.push_back(kind::attention);
    else if (parts_alone && word == "mlp")
      kinds.push_back(kind::mlp);
    else if (parts_alone && word == "moe")
      kinds.push_back(kind::moe);
    else
      keys.must(false, errc::unsupported, key,
                fmt::format("\"{}\" is not supported, only mamba (linear_attention), attention (full_attention){}", word.substr(0, 80),
                            parts_alone ? ", mlp, moe" : ""));
  }
  return kinds;
}

/// These classes give hidden_act to the convolutions of their Mamba layers, too, where ours have silu.
void refuse_other_convolutions(hf_keys& keys, const hf_config& out, hf_activation activation) {
  const bool mambas = std::ranges::any_of(out.layers, [](const hf_layer& layer) {
    return std::holds_alternative<hf_mamba1>(layer.mixer) || std::holds_alternative<hf_mamba2>(layer.mixer);
  });
  keys.must(!mambas || activation == hf_activation::silu, errc::unsupported, "hidden_act",
            "only \"silu\" is supported beside Mamba layers, whose convolutions have it, too");
}

/// True for layers offset, offset + period, ...
struct every {
  std::int64_t period = 1, offset = 0;
  bool holds(std::int64_t layer) const { return layer % period == offset; }
};
every read_every(hf_keys& keys, const char* period, const char* offset, every otherwise) {
  every e;
  e.period = keys.whole({period}, 1, layers_max, otherwise.period);
  e.offset = keys.whole({offset}, 0, e.period - 1, std::min(otherwise.offset, e.period - 1));
  return e;
}

}  // namespace

std::int64_t read_rank(hf_keys& keys, const char* key, std::int64_t d_model) {
  const json* value = keys.value({key});
  const std::int64_t automatic = (d_model + 15) / 16;
  if (value == nullptr || *value == json("auto")) return automatic;
  return keys.whole({key}, 1, extent_max);
}

void read_time_step_limit(hf_keys& keys, hf_mamba2& out) {
  const char* key = "time_step_limit";
  const json* value = keys.value({key});
  if (value == nullptr) return;
  const bool pair = value->is_array() && value->size() == 2 && (*value)[0].is_number();
  keys.must(pair, errc::malformed, key, "must be [low, high]");
  if (!pair) return;
  const json& high = (*value)[1];
  const bool open = high == json("_inf__") || high == json{{"__float__", "Infinity"}};
  keys.must(open || high.is_number(), errc::malformed, key, "must be [low, high]");
  if (keys.failed()) return;
  out.dt_min = (*value)[0].get<double>();
  out.dt_max = open ? std::numeric_limits<double>::infinity() : high.get<double>();
  keys.must(out.dt_min >= 0 && out.dt_min < out.dt_max, errc::out_of_range, key,
            fmt::format("is [{}, {}], expected 0 <= low < high", out.dt_min, out.dt_max));
}

hf_mamba2 read_prefixed_mamba2(hf_keys& keys, const hf_config& out) {
  hf_mamba2 mamba;
  const std::int64_t inner = keys.whole({"mamba_expand"}, 1, 64, 2) * out.d_model;
  mamba.heads = keys.whole({"mamba_n_heads"}, 1, extent_max, 128);
  keys.must(inner % mamba.heads == 0, errc::malformed, "mamba_n_heads",
            fmt::format("is {}, which does not divide mamba_expand * hidden_size {}", mamba.heads, inner));
  const json* head_dim = keys.value({"mamba_d_head"});
  mamba.head_dim = head_dim == nullptr || *head_dim == json("auto") ? std::max<std::int64_t>(1, inner / mamba.heads)
                                                                    : keys.whole({"mamba_d_head"}, 1, 64 * extent_max);
  keys.must(mamba.heads * mamba.head_dim == inner, errc::malformed, "mamba_d_head",
            fmt::format("mamba_n_heads * mamba_d_head are {}, mamba_expand * hidden_size are {}", mamba.heads * mamba.head_dim, inner));
  mamba.groups = keys.whole({"mamba_n_groups"}, 1, mamba.heads, 1);
  keys.must(mamba.heads % mamba.groups == 0, errc::malformed, "mamba_n_groups",
            fmt::format("is {}, which does not divide mamba_n_heads {}", mamba.groups, mamba.heads));
  mamba.state = keys.whole({"mamba_d_state"}, 1, part_max, 256);
  mamba.conv = keys.whole({"mamba_d_conv"}, 1, 1024, 4);
  mamba.chunk = keys.whole({"mamba_chunk_size"}, 1, extent_max, 256);
  mamba.conv_bias = keys.flag({"mamba_conv_bias"}, true);
  mamba.bias = keys.flag({"mamba_proj_bias"}, false);
  read_time_step_limit(keys, mamba);
  return mamba;
}

void read_bamba(hf_keys& keys, hf_config& out) {
  read_common(keys, out, false);
  out.norm_eps = keys.number({"rms_norm_eps"}, 0, 1, 1e-5);
  hf_attention attention = read_attention(keys, out);
  read_rope(keys, out, attention, 10000, 0.5);
  const std::int64_t rotated = keys.whole({"attn_rotary_emb"}, 1, extent_max, attention.rotary_dim);
  keys.must(rotated == attention.rotary_dim, errc::malformed, "attn_rotary_emb",
            fmt::format("is {}, half the head is {}", rotated, attention.rotary_dim));
  attention.qkv_bias = attention.out_bias = keys.flag({"attention_bias"}, false);
  const hf_mamba2 mamba = read_prefixed_mamba2(keys, out);
  hf_mlp mlp;
  mlp.inner = keys.whole({"intermediate_size"}, 1, 16 * extent_max);
  mlp.activation = read_activation(keys, "hidden_act", "silu");
  mlp.bias = keys.flag({"mlp_bias"}, false);
  keys.ignore({"z_loss_coefficient"});
  const std::int64_t count = read_layer_count(keys);
  const auto attends = keys.wholes({"attn_layer_indices"}, 0, count - 1);
  for (std::int64_t i = 0; i < count && !keys.failed(); ++i)
    out.layers.push_back(std::find(attends.begin(), attends.end(), i) != attends.end() ? hf_layer{attention, mlp} : hf_layer{mamba, mlp});
  refuse_other_convolutions(keys, out, mlp.activation);
}

void read_granite_hybrid(hf_keys& keys, hf_config& out) {
  read_common(keys, out, false);
  out.norm_eps = keys.number({"rms_norm_eps"}, 0, 1, 1e-6);
  out.embedding_multiplier = keys.number({"embedding_multiplier"}, 1e-6, 1e6, 1);
  out.residual_multiplier = keys.number({"residual_multiplier"}, 1e-6, 1e6, 1);
  out.logits_divisor = keys.number({"logits_scaling"}, 1e-6, 1e6, 1);
  hf_attention attention = read_attention(keys, out);
  const std::string positions = keys.text({"position_embedding_type"}, "nope");
  keys.must(positions == "nope" || positions == "rope", errc::unsupported, "position_embedding_type",
            fmt::format("\"{}\" is not supported, only rope, nope, null", positions.substr(0, 80)));
  read_rope(keys, out, attention, 10000);
  if (positions != "rope") {
    attention.rotary_dim = 0;
    out.rope.reset();
  }
  attention.scale = keys.number({"attention_multiplier"}, 1e-6, 1e6, 1);
  attention.qkv_bias = attention.out_bias = keys.flag({"attention_bias"}, false);
  hf_moe moe;
  const std::int64_t experts = keys.whole({"num_local_experts"}, 0, experts_max, 8);
  moe.experts = std::max<std::int64_t>(1, experts);
  moe.active =
      keys.whole({"num_experts_per_tok"}, experts > 0 ? 1 : 0, experts > 0 ? experts : experts_max, std::min<std::int64_t>(2, moe.experts));
  moe.inner = keys.whole({"intermediate_size"}, 1, 16 * extent_max);
  moe.shared_inner = keys.whole({"shared_intermediate_size"}, 1, 16 * extent_max, 1024);
  moe.activation = read_activation(keys, "hidden_act", "silu");
  moe.stacked = moe.fused = true;
  hf_layer with;  // the channel mixer of every layer
  if (experts > 0) {
    with.channel = moe;
  } else {
    hf_mlp mlp;
    mlp.inner = moe.shared_inner;
    mlp.activation = moe.activation;
    mlp.fused = true;
    with.channel = mlp;
  }
  const hf_mamba2 mamba = read_prefixed_mamba2(keys, out);
  keys.only("normalization_function", "rmsnorm");
  keys.only("mlp_bias", false);
  keys.ignore({"output_router_logits", "router_aux_loss_coef", "init_method"});
  const std::int64_t count = read_layer_count(keys);
  auto kinds = read_kinds(keys, {"layer_types", "layers_block_type"}, false);
  if (kinds.empty()) kinds.assign(static_cast<std::size_t>(count), kind::mamba);
  keys.must(kinds.size() == static_cast<std::size_t>(count), errc::malformed, "layer_types",
            fmt::format("has {} layers, num_hidden_layers is {}", kinds.size(), count));
  for (const kind k : kinds) {
    hf_layer layer = with;
    if (k == kind::attention)
      layer.mixer = attention;
    else
      layer.mixer = mamba;
    out.layers.push_back(layer);
  }
  refuse_other_convolutions(keys, out, moe.activation);
}

void read_jamba(hf_keys& keys, hf_config& out) {
  read_common(keys, out, false);
  out.norm_eps = keys.number({"rms_norm_eps"}, 0, 1, 1e-6);
  const hf_attention attention = read_attention(keys, out);  // without positions
  hf_mamba1 mamba;
  mamba.inner = keys.whole({"mamba_expand"}, 1, 64, 2) * out.d_model;
  mamba.state = keys.whole({"mamba_d_state"}, 1, part_max, 16);
  mamba.conv = keys.whole({"mamba_d_conv"}, 1, 1024, 4);
  mamba.dt_rank = read_rank(keys, "mamba_dt_rank", out.d_model);
  mamba.conv_bias = keys.flag({"mamba_conv_bias"}, true);
  mamba.bias = keys.flag({"mamba_proj_bias"}, false);
  mamba.inner_norms = true;
  keys.only("mamba_inner_layernorms", true);
  hf_mlp mlp;
  mlp.inner = keys.whole({"intermediate_size"}, 1, 16 * extent_max);
  mlp.activation = read_activation(keys, "hidden_act", "silu");
  hf_moe moe;
  moe.experts = keys.whole({"num_experts", "num_local_experts"}, 1, experts_max, 16);
  moe.active = keys.whole({"num_experts_per_tok"}, 1, std::max<std::int64_t>(2, moe.experts), 2);
  moe.inner = mlp.inner;
  moe.activation = mlp.activation;
  moe.renormalise = false;
  const every attends = read_every(keys, "attn_layer_period", "attn_layer_offset", {8, 4});
  const every chooses = read_every(keys, "expert_layer_period", "expert_layer_offset", {2, 1});
  const std::int64_t count = read_layer_count(keys);
  keys.must(moe.experts == 1 || moe.active <= moe.experts, errc::out_of_range, "num_experts_per_tok",
            fmt::format("is {} of {} experts", moe.active, moe.experts));
  for (std::int64_t i = 0; i < count && !keys.failed(); ++i) {
    hf_layer layer;
    if (attends.holds(i))
      layer.mixer = attention;
    else
      layer.mixer = mamba;
    if (moe.experts > 1 && chooses.holds(i))
      layer.channel = moe;
    else
      layer.channel = mlp;
    out.layers.push_back(layer);
  }
  refuse_other_convolutions(keys, out, mlp.activation);
  keys.must(!keys.has("sliding_window"), errc::unsupported, "sliding_window", "only null is supported");
  keys.ignore({"sliding_window", "output_router_logits", "router_aux_loss_coef", "use_mamba_kernels", "use_mambapy", "use_associative_scan",
               "calc_logits_for_entire_prompt", "n_ctx"});
}

namespace {

/// hybrid_override_pattern: M mamba, * attention, - MLP, E experts.
std::vector<kind> read_pattern(hf_keys& keys) {
  const std::string pattern = keys.text({"hybrid_override_pattern"}, "");
  std::vector<kind> kinds;
  keys.must(pattern.size() <= static_cast<std::size_t>(layers_max), errc::too_large, "hybrid_override_pattern", "is too long");
  for (const char c : pattern) {
    keys.must(c == 'M' || c == '*' || c == '-' || c == 'E', errc::unsupported, "hybrid_override_pattern",
              "holds a letter that is none of M, *, -, E");
    kinds.push_back(c == 'M' ? kind::mamba : c == '*' ? kind::attention : c == 'E' ? kind::moe : kind::mlp);
  }
  return keys.failed() ? std::vector<kind>() : kinds;
}

hf_mamba2 read_nemotron_mamba(hf_keys& keys) {
  hf_mamba2 mamba;
  mamba.heads = keys.whole({"mamba_num_heads"}, 1, extent_max, 128);
  mamba.head_dim = keys.whole({"mamba_head_dim"}, 1, part_max, 64);
  mamba.groups = keys.whole({"n_groups", "mamba_n_groups"}, 1, mamba.heads, 8);
  keys.must(mamba.heads % mamba.groups == 0, errc::malformed, "n_groups",
            fmt::format("is {}, which does not divide mamba_num_heads {}", mamba.groups, mamba.heads));
  mamba.state = keys.whole({"ssm_state_size"}, 1, part_max, 128);
  mamba.conv = keys.whole({"conv_kernel", "mamba_d_conv"}, 1, 1024, 4);
  mamba.chunk = keys.whole({"chunk_size", "mamba_chunk_size"}, 1, extent_max, 128);
  mamba.conv_bias = keys.flag({"use_conv_bias", "mamba_conv_bias"}, true);
  mamba.bias = keys.flag({"use_bias"}, false);
  mamba.dt_min = keys.number({"time_step_min", "mamba_dt_min"}, 0, 1e6, 0.001);  // the class clamps to this, not to time_step_limit
  keys.only("mamba_hidden_act", "silu");
  keys.only("mamba_proj_bias", false);
  keys.ignore({"expand", "mamba_expand", "time_step_limit", "mamba_dt_limit", "time_step_max", "mamba_dt_max", "time_step_rank",
               "time_step_floor", "mamba_dt_init_floor", "mamba_ssm_cache_dtype", "use_mamba_kernels", "rescale_prenorm_residual",
               "residual_in_fp32"});
  return mamba;
}

hf_moe read_nemotron_moe(hf_keys& keys) {
  hf_moe moe;
  moe.experts = keys.whole({"n_routed_experts", "num_local_experts"}, 1, experts_max, 8);
  moe.active = keys.whole({"num_experts_per_tok"}, 1, moe.experts, std::min<std::int64_t>(2, moe.experts));
  moe.inner = keys.whole({"moe_intermediate_size"}, 1, 16 * extent_max, 7688);
  moe.shared_inner = keys.whole({"moe_shared_expert_intermediate_size"}, 1, 16 * extent_max, 7688);
  moe.router = hf_moe::router_kind::sigmoid;
  moe.renormalise = keys.flag({"norm_topk_prob"}, true);
  moe.scale = keys.number({"routed_scaling_factor"}, 1e-6, 1e6, 1);
  moe.expert_groups = keys.whole({"n_group"}, 1, moe.experts, 1);
  moe.active_groups = keys.whole({"topk_group"}, 1, moe.expert_groups, 1);
  keys.must(moe.experts % moe.expert_groups == 0, errc::malformed, "n_group",
            fmt::format("is {}, which does not divide n_routed_experts {}", moe.expert_groups, moe.experts));
  moe.gated = false;
  keys.whole({"n_shared_experts"}, 1, 1, 1);
  keys.must(!keys.has("moe_latent_size"), errc::unsupported, "moe_latent_size", "only null is supported");
  keys.ignore({"moe_latent_size", "moe_shared_expert_overlap", "output_router_logits"});
  return moe;
}

}  // namespace

void read_nemotron_h(hf_keys& keys, hf_config& out) {
  read_common(keys, out, false);
  out.norm_eps = keys.number({"layer_norm_epsilon", "rms_norm_eps"}, 0, 1, 1e-5);
  hf_attention attention;  // without positions
  attention.heads = keys.whole({"num_attention_heads"}, 1, extent_max, 32);
  attention.kv_heads =
      keys.whole({"num_key_value_heads", "num_query_groups"}, 1, attention.heads, std::min<std::int64_t>(8, attention.heads));
  attention.head_dim = keys.whole({"head_dim", "attention_head_dim"}, 1, part_max, 128);
  attention.scale = 1 / std::sqrt(static_cast<double>(attention.head_dim));
  keys.must(attention.heads % attention.kv_heads == 0, errc::malformed, "num_key_value_heads", "does not divide num_attention_heads");
  keys.only("attention_bias", false);
  keys.must(!keys.has("sliding_window"), errc::unsupported, "sliding_window", "only null is supported");
  const hf_mamba2 mamba = read_nemotron_mamba(keys);
  hf_moe moe = read_nemotron_moe(keys);
  hf_mlp mlp;
  mlp.inner = keys.whole({"intermediate_size"}, 1, 16 * extent_max, 21504);
  mlp.activation = moe.activation = read_activation(keys, "mlp_hidden_act", "relu2");
  mlp.gated = false;
  keys.only("mlp_bias", false);
  keys.whole({"num_nextn_predict_layers"}, 0, 0, 0);
  keys.ignore({"sliding_window", "mtp_layers_block_type", "mtp_hybrid_override_pattern"});

  auto kinds = read_kinds(keys, {"layers_block_type", "layer_types"}, true);
  const auto pattern = read_pattern(keys);
  keys.must(kinds.empty() || pattern.empty() || kinds == pattern, errc::malformed, "hybrid_override_pattern",
            "differs from layers_block_type");
  if (kinds.empty()) kinds = pattern;
  keys.must(!kinds.empty(), errc::malformed, "layers_block_type", "is missing, as is hybrid_override_pattern");
  const auto count = static_cast<std::int64_t>(kinds.size());
  keys.must(keys.whole({"num_hidden_layers"}, 1, layers_max, count) == count, errc::malformed, "num_hidden_layers",
            fmt::format("is not the number of layers listed, {}", count));
  for (const kind k : kinds) {
    hf_layer layer;
    switch (k) {
      case kind::mamba: layer.mixer = mamba; break;
      case kind::attention: layer.mixer = attention; break;
      case kind::mlp: layer.channel = mlp; break;
      case kind::moe: layer.channel = moe; break;
    }
    out.layers.push_back(layer);
  }
}

}  // namespace isthmus::hf
