#include "framework/formats/hf_families.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>

/// Families of one kind of layer, the convolutions of StripedHyena, and M2-BERT.
namespace isthmus::hf {

namespace {

/// Llama's pattern: the same attention and the same channel mixer in every layer.
void repeat(hf_keys& keys, hf_config& out, const hf_layer& layer) {
  out.layers.assign(static_cast<std::size_t>(read_layer_count(keys)), layer);
}

std::int64_t read_window(hf_keys& keys, std::int64_t otherwise_key_absent) {
  // null is no window, but an absent key is the class's default.
  return keys.has_key("sliding_window") ? keys.whole({"sliding_window"}, 1, context_max, 0) : otherwise_key_absent;
}

}  // namespace

void read_llama(hf_keys& keys, hf_config& out) {
  read_common(keys, out, false);
  out.norm_eps = keys.number({"rms_norm_eps"}, 0, 1, 1e-6);
  hf_attention attention = read_attention(keys, out);
  read_rope(keys, out, attention, 10000);
  attention.qkv_bias = attention.out_bias = keys.flag({"attention_bias"}, false);
  hf_mlp mlp;
  mlp.inner = keys.whole({"intermediate_size"}, 1, 16 * extent_max);
  mlp.activation = read_activation(keys, "hidden_act", "silu");
  mlp.bias = keys.flag({"mlp_bias"}, false);
  keys.ignore({"pretraining_tp"});  // how the products were split, not what they give
  repeat(keys, out, {attention, mlp});
}

void read_mistral(hf_keys& keys, hf_config& out) {
  read_common(keys, out, false);
  out.norm_eps = keys.number({"rms_norm_eps"}, 0, 1, 1e-6);
  hf_attention attention = read_attention(keys, out);
  read_rope(keys, out, attention, 10000);
  attention.window = read_window(keys, 4096);
  hf_mlp mlp;
  mlp.inner = keys.whole({"intermediate_size"}, 1, 16 * extent_max);
  mlp.activation = read_activation(keys, "hidden_act", "silu");
  repeat(keys, out, {attention, mlp});
}

void read_mixtral(hf_keys& keys, hf_config& out) {
  read_common(keys, out, false);
  out.norm_eps = keys.number({"rms_norm_eps"}, 0, 1, 1e-5);
  hf_attention attention = read_attention(keys, out);
  read_rope(keys, out, attention, 1e6);
  attention.window = read_window(keys, 0);
  hf_moe moe;
  moe.experts = keys.whole({"num_local_experts"}, 1, experts_max, 8);
  moe.active = keys.whole({"num_experts_per_tok"}, 1, moe.experts, std::min<std::int64_t>(2, moe.experts));
  moe.inner = keys.whole({"intermediate_size"}, 1, 16 * extent_max);
  moe.activation = read_activation(keys, "hidden_act", "silu");
  keys.ignore({"router_jitter_noise", "router_aux_loss_coef", "output_router_logits"});  // while training
  repeat(keys, out, {attention, moe});
}

void read_mamba(hf_keys& keys, hf_config& out) {
  read_common(keys, out, true);
  out.norm_eps = keys.number({"layer_norm_epsilon"}, 0, 1, 1e-5);
  hf_mamba1 mamba;
  const std::int64_t expand = keys.whole({"expand"}, 1, 64, 2);
  mamba.inner = keys.whole({"intermediate_size", "d_inner"}, 1, 64 * extent_max, expand * out.d_model);
  keys.must(mamba.inner == expand * out.d_model, errc::malformed, "intermediate_size",
            fmt::format("is {}, expand * hidden_size are {}", mamba.inner, expand * out.d_model));
  mamba.state = keys.whole({"state_size"}, 1, part_max, 16);
  mamba.conv = keys.whole({"conv_kernel"}, 1, 1024, 4);
  mamba.dt_rank = read_rank(keys, "time_step_rank", out.d_model);
  mamba.bias = keys.flag({"use_bias"}, false);
  mamba.conv_bias = keys.flag({"use_conv_bias"}, true);
  keys.only("hidden_act", "silu");
  // Files converted from the original checkpoints say some things twice.
  keys.whole({"d_model"}, out.d_model, out.d_model, out.d_model);
  const std::int64_t count = read_layer_count(keys);
  keys.whole({"n_layer"}, count, count, count);
  const auto* details = keys.value({"ssm_cfg"});
  keys.must(details == nullptr || details->empty(), errc::unsupported, "ssm_cfg", "only an empty object is supported");
  // How a fresh model is drawn, which code runs, and in which type the residual stream is kept.
  keys.ignore({"time_step_min", "time_step_max", "time_step_floor", "time_step_scale", "time_step_init_scheme", "rescale_prenorm_residual",
               "residual_in_fp32", "use_mambapy", "use_associative_scan", "fused_add_norm", "pad_vocab_size_multiple"});
  keys.only("rms_norm", true);
  repeat(keys, out, {mamba, std::monostate{}});
}

void read_mamba2(hf_keys& keys, hf_config& out) {
  read_common(keys, out, false);
  out.norm_eps = keys.number({"layer_norm_epsilon"}, 0, 1, 1e-5);
  hf_mamba2 mamba;
  mamba.heads = keys.whole({"num_heads"}, 1, extent_max, 128);
  mamba.head_dim = keys.whole({"head_dim"}, 1, part_max, 64);
  mamba.groups = keys.whole({"n_groups"}, 1, mamba.heads, 8);
  mamba.state = keys.whole({"state_size"}, 1, part_max, 128);
  mamba.conv = keys.whole({"conv_kernel"}, 1, 1024, 4);
  mamba.chunk = keys.whole({"chunk_size"}, 1, extent_max, 256);
  mamba.bias = keys.flag({"use_bias"}, false);
  mamba.conv_bias = keys.flag({"use_conv_bias"}, true);
  read_time_step_limit(keys, mamba);
  const std::int64_t expand = keys.whole({"expand"}, 1, 64, 2);
  keys.must(mamba.heads * mamba.head_dim == expand * out.d_model, errc::malformed, "num_heads",
            fmt::format("num_heads * head_dim are {}, expand * hidden_size are {}", mamba.heads * mamba.head_dim, expand * out.d_model));
  keys.must(mamba.heads % mamba.groups == 0, errc::malformed, "n_groups",
            fmt::format("is {}, which does not divide num_heads {}", mamba.groups, mamba.heads));
  keys.only("hidden_act", "silu");
  keys.only("rms_norm", true);
  keys.whole({"intermediate_size"}, mamba.heads * mamba.head_dim, mamba.heads * mamba.head_dim, mamba.heads * mamba.head_dim);
  // norm_before_gate: the class gates before the norm whatever the key says.
  keys.ignore({"time_step_rank", "time_step_init_scheme", "time_step_scale", "time_step_min", "time_step_max", "time_step_floor",
               "rescale_prenorm_residual", "residual_in_fp32", "norm_before_gate"});
  repeat(keys, out, {mamba, std::monostate{}});
}

namespace {

hf_attention read_striped_attention(hf_keys& keys, hf_config& out) {
  hf_attention attention;
  attention.heads = keys.whole({"num_attention_heads"}, 1, extent_max, 32);
  const std::int64_t shared = keys.whole({"proj_groups"}, 1, attention.heads, std::min<std::int64_t>(4, attention.heads));
  keys.must(out.d_model % attention.heads == 0, errc::malformed, "num_attention_heads",
            fmt::format("is {}, which does not divide hidden_size {}", attention.heads, out.d_model));
  keys.must(attention.heads % shared == 0, errc::malformed, "proj_groups",
            fmt::format("is {}, which does not divide num_attention_heads", shared));
  attention.kv_heads = std::max<std::int64_t>(1, attention.heads / shared);
  attention.head_dim = attention.rotary_dim = std::max<std::int64_t>(1, out.d_model / attention.heads);
  attention.scale = 1 / std::sqrt(static_cast<double>(attention.head_dim));
  attention.qkv_bias = keys.flag({"qkv_proj_bias"}, false);
  attention.out_bias = keys.flag({"mha_out_proj_bias"}, false);
  attention.fused = true;
  hf_rope rope;
  rope.theta = keys.number({"rotary_emb_base"}, 1, 1e12, 500000);
  if (keys.flag({"use_interpolated_rotary_pos_emb"}, false)) rope.scaling = hf_rope::scaling_kind::linear;
  rope.factor = keys.number({"rotary_emb_scaling_factor"}, 1, 1e6, 1);
  if (rope.scaling == hf_rope::scaling_kind::none) rope.factor = 1;
  out.rope = rope;
  return attention;
}

hf_hyena read_striped_filter(hf_keys& keys, const hf_config& out, std::int64_t heads) {
  hf_hyena hyena;
  const std::int64_t groups = keys.whole({"hyena_filter_groups"}, 1, out.d_model, 1);
  keys.must(out.d_model % groups == 0, errc::malformed, "hyena_filter_groups",
            fmt::format("is {}, which does not divide hidden_size {}", groups, out.d_model));
  hyena.filters = std::max<std::int64_t>(1, out.d_model / groups);
  const std::int64_t filters = keys.whole({"num_filters"}, 1, out.d_model, out.d_model);
  keys.must(out.d_model % filters == 0, errc::malformed, "num_filters",
            fmt::format("is {}, which does not divide hidden_size {}", filters, out.d_model));
  hyena.state = keys.whole({"state_size"}, 1, part_max, 2);
  hyena.short_filter = keys.whole({"short_filter_length"}, 1, 1024, 3);
  hyena.short_bias = keys.flag({"short_filter_bias"}, true);
  hyena.column_split = keys.flag({"column_split_hyena"}, true);
  hyena.heads = heads;
  return hyena;
}

}  // namespace

void read_striped_hyena(hf_keys& keys, hf_config& out) {
  read_common(keys, out, false);
  out.tied_head = keys.flag({"tie_embeddings"}, out.tied_head);
  out.context = keys.whole({"max_seqlen"}, 1, context_max, out.context);
  out.norm_eps = keys.number({"eps"}, 0, 1, 1e-5);
  out.final_norm = keys.flag({"final_norm"}, true);
  const hf_attention attention = read_striped_attention(keys, out);
  const hf_hyena hyena = read_striped_filter(keys, out, attention.heads);
  hf_mlp mlp;
  mlp.inner = keys.whole({"inner_mlp_size"}, 1, 16 * extent_max);
  mlp.activation = read_activation(keys, "mlp_activation", "silu");
  keys.must(mlp.activation == hf_activation::silu || mlp.activation == hf_activation::gelu, errc::unsupported, "mlp_activation",
            "only silu and gelu are supported, which its code has");

  const std::int64_t count = keys.whole({"num_layers", "num_hidden_layers"}, 1, layers_max);
  // The released 7B lists a layer 32 of 32, which is none.
  const auto attends = keys.wholes({"attn_layer_idxs"}, 0, layers_max), convolves = keys.wholes({"hyena_layer_idxs"}, 0, layers_max);
  for (std::int64_t i = 0; i < count && !keys.failed(); ++i) {
    const bool a = std::find(attends.begin(), attends.end(), i) != attends.end();
    const bool h = std::find(convolves.begin(), convolves.end(), i) != convolves.end();
    keys.must(a != h, errc::malformed, "attn_layer_idxs",
              fmt::format("layer {} must be in one of attn_layer_idxs and hyena_layer_idxs", i));
    out.layers.push_back(a ? hf_layer{attention, mlp} : hf_layer{hyena, mlp});
  }
  keys.only("smeared_gqa", false);
  // Without its fused kernel the norm divides by rms + eps, not by the root of rms^2 + eps.
  keys.only("use_flash_rmsnorm", true);
  keys.must(!keys.has("long_fir_threshold"), errc::unsupported, "long_fir_threshold", "only null is supported: filters would be cut off");
  keys.ignore({"split_k0",
               "column_split",
               "_commit_hash",
               "model_parallel_size",
               "pipe_parallel_size",
               "use_flash_attention_2",
               "use_flash_attn",
               "use_flash_depthwise",
               "use_flashfft",
               "inference_mode",
               "prefill_style",
               "mlp_dtype",
               "attn_block_dtype",
               "hyena_block_dtype",
               "long_fir_threshold",
               "low_mem_mode",
               "make_vocab_size_divisible_by",
               "inner_size_multiple_of",
               "log_intermediate_values",
               "max_batch_size",
               "compile",
               "depthwise_dtype"});
}

void read_m2_bert(hf_keys& keys, hf_config& out) {
  read_common(keys, out, true);
  out.norm = hf_config::norm_kind::layer;
  out.norm_eps = keys.number({"layer_norm_eps"}, 0, 1, 1e-12);
  out.final_norm = false;
  out.token_types = keys.whole({"type_vocab_size"}, 1, extent_max, 2);
  if (keys.flag({"use_positional_encodings"}, false)) out.positions = out.context > 0 ? out.context : 512;
  const bool mixes = keys.flag({"monarch_mixer_sequence_mixing"}, false);
  keys.must(mixes, errc::unsupported, "monarch_mixer_sequence_mixing", "must be true: BERT's attention with ALiBi is not supported");
  out.mean_pooling = keys.flag({"pool_all"}, false);
  hf_monarch monarch;
  monarch.context = keys.whole({"long_conv_l_max"}, 1, context_max);
  monarch.emb = keys.whole({"hyena_emb_dim"}, 3, 1023);
  keys.must(monarch.emb % 2 == 1, errc::malformed, "hyena_emb_dim", "must be odd");
  monarch.order = keys.whole({"hyena_filter_order"}, 1, extent_max, 64);
  monarch.w_mod = keys.number({"hyena_w_mod"}, 1e-6, 1e6, 1);
  monarch.bidirectional = keys.flag({"bidirectional"}, true);
  monarch.residual_long_conv = keys.flag({"residual_long_conv"}, false);
  keys.only("hyena_training_additions", false);
  hf_mlp mlp;
  mlp.inner = keys.whole({"intermediate_size"}, 1, 16 * extent_max);
  mlp.activation = read_activation(keys, "hidden_act", "gelu");
  keys.must(mlp.activation == hf_activation::gelu, errc::unsupported, "hidden_act", "only \"gelu\" is supported");
  mlp.gated = mlp.fused = keys.flag({"use_glu_mlp"}, true);
  mlp.blocks = keys.whole({"monarch_mlp_nblocks"}, 1, 4096, 4);
  if (!keys.flag({"use_monarch_mlp"}, false)) mlp.blocks = 1;
  keys.must(out.d_model % mlp.blocks == 0 && mlp.inner % mlp.blocks == 0, errc::malformed, "monarch_mlp_nblocks",
            fmt::format("is {}, which does not divide hidden_size and intermediate_size", mlp.blocks));
  // Dropout, learning rates and initial values; heads serve attention alone.
  keys.ignore({"hidden_dropout_prob", "attention_probs_dropout_prob", "hyena_filter_dropout", "hyena_lr_pos_emb", "hyena_w", "hyena_wd",
               "long_conv_kernel_learning_rate", "alibi_starting_size", "num_attention_heads", "use_flash_mm", "use_flash_fft",
               "position_embedding_type", "classifier_dropout", "expand_positional_embeddings"});
  repeat(keys, out, {monarch, mlp});
}

}  // namespace isthmus::hf
