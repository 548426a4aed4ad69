#include "framework/models/export_parts.hpp"
#include "framework/models/import_m2_bert.hpp"

#include <nlohmann/json.hpp>

/// config.json of StripedHyena and of M2-BERT, with the keys of their authors' code.
namespace isthmus {

namespace {

using nlohmann::json;

void add_attention(const layer_shape& s, json& out) {
  out["num_attention_heads"] = s.integer("n_heads");
  out["proj_groups"] = s.integer("n_heads") / s.integer("n_kv_heads");
  out["qkv_proj_bias"] = s.flag("qkv_bias");
  out["mha_out_proj_bias"] = s.flag("attention_out_bias");
  out["rotary_emb_base"] = s.real("rope_theta");
  if (s.real("rope_factor") == 1) return;
  out["use_interpolated_rotary_pos_emb"] = true;
  out["rotary_emb_scaling_factor"] = s.real("rope_factor");
}

}  // namespace

void add_striped_hyena_keys(const model_config& model, std::span<const layer_pair> layers, const export_facts& facts, json& out) {
  json attends = json::array(), convolves = json::array();
  for (std::size_t i = 0; i < layers.size(); ++i) (kind_of(layers[i].mixer) == "attention" ? attends : convolves).push_back(i);
  out["num_layers"] = layers.size();
  out["attn_layer_idxs"] = attends;
  out["hyena_layer_idxs"] = convolves;
  out["tie_embeddings"] = model.tied_head;
  out["eps"] = shortest(model.norm_eps);
  out["final_norm"] = out["use_flash_rmsnorm"] = true;  // eps stands inside the root
  out["num_filters"] = model.d_model;
  out["hyena_filter_groups"] = 1;  // a filter a channel
  out["column_split_hyena"] = out["short_filter_bias"] = true;
  out["num_attention_heads"] = 1;
  if (facts.context > 0) out["max_seqlen"] = facts.context;
  if (const layer_shape* attention = first_of_kind(layers, "attention")) add_attention(*attention, out);
  if (const layer_shape* hyena = first_of_kind(layers, "hyena")) {
    out["state_size"] = hyena->integer("hyena_modes");
    out["short_filter_length"] = hyena->integer("hyena_short");
  }
  const layer_shape& channel = *layers.front().channel;
  out["inner_mlp_size"] = channel.integer("ffn_hidden");
  out["mlp_activation"] = activation_word(channel);
}

void add_m2_bert_keys(const model_config& model, std::span<const layer_pair> layers, json& out) {
  const layer_shape &mixer = *layers.front().mixer, &channel = *layers.front().channel;
  const std::int64_t positions = model.encoder->positions, blocks = channel.integer("monarch_blocks");
  out["layer_norm_eps"] = m2_bert_norm_eps;
  out["type_vocab_size"] = model.encoder->token_types;
  out["use_positional_encodings"] = positions > 0;
  if (positions > 0) out["max_position_embeddings"] = positions;
  out["monarch_mixer_sequence_mixing"] = true;
  out["long_conv_l_max"] = mixer.integer("monarch_context");
  out["hyena_emb_dim"] = mixer.integer("monarch_features");
  out["hyena_filter_order"] = mixer.integer("monarch_order");
  out["hyena_w"] = mixer.real("monarch_frequency");  // that training began with
  out["hyena_w_mod"] = 1;                            // it is in the frequencies
  out["bidirectional"] = mixer.flag("monarch_bidirectional");
  out["residual_long_conv"] = mixer.flag("monarch_residual");
  out["intermediate_size"] = channel.integer("ffn_hidden");
  out["hidden_act"] = activation_word(channel);
  out["use_glu_mlp"] = channel.flag("ffn_gated");
  out["use_monarch_mlp"] = blocks > 1;
  out["monarch_mlp_nblocks"] = blocks;
}

}  // namespace isthmus
