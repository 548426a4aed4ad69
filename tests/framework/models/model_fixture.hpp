#pragma once

#include "framework/core/rng.hpp"
#include "framework/models/hybrid_model.hpp"

#include <cstdint>
#include <vector>

namespace isthmus::testing {

inline const char* mixer_of(char letter) {
  switch (letter) {
    case 'a': return "attention";
    case 'w': return "attention_to_five";
    case 'f': return "attention_both";
    case 's': return "mamba1";
    case 'h': return "hyena";
    case 'd': return "hyena_decays";
    case 'e': return "hyena_taps";
    case 'g': return "gated_delta_net";
    case 'r': return "monarch";
    case 'b': return "monarch_both";
    default: return "mamba2";
  }
}

/// A model small enough for finite differences. One letter a layer: a = attention, m = Mamba-2, s = Mamba-1 (selective
/// scan), h, d, e = Hyena with filters that are modal, of decays, explicit, g = gated DeltaNet, w = attention to the last five tokens,
/// f = attention to all tokens, later ones too, r = Monarch Mixer, b = the same, bidirectional, with learned features.
inline model_config tiny_config(const char* layers, std::int64_t ssm_groups = 1) {
  model_config c;
  c.vocabulary = 37;
  c.d_model = 16;
  c.layers.clear();
  for (const char* l = layers; *l; ++l) c.layers.emplace_back(mixer_of(*l));
  c.options = {{"n_heads", 4},    {"n_kv_heads", 2},   {"head_dim", 6},   {"ffn_hidden", 20},
               {"ssm_inner", 32}, {"ssm_head_dim", 8}, {"ssm_state", 5},  {"ssm_groups", static_cast<double>(ssm_groups)},
               {"conv_width", 4}, {"ssm_chunk", 4},    {"scan_state", 3}, {"scan_rank", 3},
               {"scan_chunk", 4}};
  c.options["hyena_modes"] = 3;
  c.options["delta_heads"] = 2;
  c.options["delta_key_dim"] = 5;
  c.options["delta_value_dim"] = 6;
  c.options["delta_chunk"] = 4;
  c.options["monarch_context"] = 8;
  c.options["monarch_features"] = 5;
  c.options["monarch_order"] = 6;
  c.options["monarch_frequency"] = 1;  // central differences want smooth filters
  c.options["monarch_residual"] = 1;
  c.options["monarch_bias"] = 1;
  c.options["moe_experts"] = 5;
  c.options["moe_hidden"] = 16;
  c.options["moe_balance"] = 0;  // the loss that a model gives is that of the tokens alone
  c.variants = {
      {"moe_shared", "moe", {{"moe_router", 1}, {"moe_shared_hidden", 32}}},
      {"moe_sigmoid",
       "moe",
       {{"moe_router", 2}, {"moe_active", 3}, {"moe_scale", 1.5}, {"moe_activation", 3}, {"moe_gated", 0}, {"moe_shared_hidden", 16}}},
      {"attention_to_five", "attention", {{"attention_window", 5}}},
      {"attention_both", "attention", {{"attention_bidirectional", 1}}},
      {"monarch_both", "monarch", {{"monarch_bidirectional", 1}, {"monarch_learned", 1}}},
      {"monarch_mlp_plain", "monarch_mlp", {{"monarch_shuffle", 0}, {"ffn_gated", 1}, {"monarch_out_bias", 1}}},
      {"gelu", "mlp", {}},
      {"geglu", "mlp", {{"ffn_activation", 1}, {"ffn_gated", 1}}},
      {"relu2", "mlp", {{"ffn_activation", 2}}},
      {"hyena_decays", "hyena", {{"hyena_filter", 1}}},
      {"hyena_taps", "hyena", {{"hyena_filter", 2}, {"hyena_taps", 5}, {"hyena_filters", 4}}}};
  return c;
}

/// An encoder; its mixers with a residual and a norm behind them, or without.
inline model_config tiny_encoder(const char* layers, bool mixer_residual) {
  auto c = tiny_config(layers);
  c.channel = "monarch_mlp_plain";
  c.norm = norm_kind::layer_norm;
  c.encoder = encoder_config{.positions = 16, .token_types = 2, .mixer_residual = mixer_residual};
  return c;
}

/// The same with mixtures of experts for channel mixers, of every rule in turn.
inline model_config with_experts(model_config c) {
  const char* channels[] = {"/moe", "/moe_shared", "/moe_sigmoid"};
  for (std::size_t i = 0; i < c.layers.size(); ++i) c.layers[i] += channels[i % 3];
  return c;
}

inline std::vector<std::int32_t> random_ids(std::uint64_t seed, std::int64_t count, std::int64_t vocabulary) {
  rng random(seed, 0, 0, draw::sampling);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  for (auto& id : ids) id = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocabulary)));
  return ids;
}

/// Every weight moved a little from its initial value, so that no gradient is zero by symmetry.
inline std::vector<float> shaken_weights(const model_config& config, std::uint64_t seed) {
  const parameter_layout layout = hybrid_layout(config);
  std::vector<float> weights(static_cast<std::size_t>(layout.size));
  initial_weights(config, seed, weights);
  rng random(seed, 1, 0, draw::sampling);
  for (const auto& slot : layout.slots) {
    for (std::int64_t i = slot.offset; i < slot.offset + slot.count; ++i) {
      auto& w = weights[static_cast<std::size_t>(i)];
      if (slot.name.find("embed") != std::string::npos) w *= 20;
      w += static_cast<float>(0.1 * random.normal());
    }
  }
  return weights;
}

}  // namespace isthmus::testing
