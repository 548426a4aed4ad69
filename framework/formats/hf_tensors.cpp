#include "framework/formats/hf_config.hpp"

#include <fmt/format.h>

#include <utility>

namespace isthmus {

namespace {

using shape = std::vector<std::int64_t>;

/// Where a family keeps the parts of a layer, all below the layer's own prefix.
struct layer_names {
  std::string layers;  // "model.layers."
  std::string mixer_norm, channel_norm;
  std::string attention, mamba;  // folders, each with its dot
  std::string channel;
};

layer_names names_of(hf_family family) {
  switch (family) {
    case hf_family::llama:
    case hf_family::mistral:
      return {"model.layers.", "input_layernorm.weight", "post_attention_layernorm.weight", "self_attn.", "", "mlp."};
    case hf_family::mixtral:
      return {"model.layers.", "input_layernorm.weight", "post_attention_layernorm.weight", "self_attn.", "", "block_sparse_moe."};
    case hf_family::bamba:
    case hf_family::jamba:
      return {"model.layers.", "input_layernorm.weight", "pre_ff_layernorm.weight", "self_attn.", "mamba.", "feed_forward."};
    case hf_family::granite_hybrid:
      return {"model.layers.", "input_layernorm.weight", "post_attention_layernorm.weight", "self_attn.", "mamba.", "shared_mlp."};
    case hf_family::mamba:
    case hf_family::mamba2:
    case hf_family::nemotron_h: return {"backbone.layers.", "norm.weight", "norm.weight", "mixer.", "mixer.", "mixer."};
    case hf_family::striped_hyena: return {"backbone.blocks.", "pre_norm.scale", "post_norm.scale", "inner_mha_cls.", "", "mlp."};
    case hf_family::m2_bert: return {"bert.encoder.layer.", "", "mlp.layernorm.weight", "attention.", "", "mlp."};
  }
  throw contract_error("names_of: no such family");
}

/// Collects the tensors of one layer.
class layer_writer {
public:
  layer_writer(const hf_config& config, std::size_t layer) : config_(config), names_(names_of(config.family)), d_(config.d_model) {
    prefix_ = names_.layers + std::to_string(layer) + ".";
  }

  std::vector<hf_tensor> write(const hf_layer& layer) {
    const bool post = config_.norm == hf_config::norm_kind::layer;
    if (!post && layer.mixer.index() != 0) add("mixer_norm", names_.mixer_norm, {d_});
    std::visit([this](const auto& mixer) { write(mixer); }, layer.mixer);
    if (layer.channel.index() != 0) add("channel_norm", names_.channel_norm, {d_});
    if (post && layer.channel.index() != 0) add("channel_norm.bias", "mlp.layernorm.bias", {d_});
    std::visit([this](const auto& channel) { write(channel); }, layer.channel);
    return std::move(out_);
  }

private:
  void add(std::string role, const std::string& name, shape extents, std::int64_t expert = -1) {
    out_.push_back({std::move(role), expert, prefix_ + name, std::move(extents)});
  }
  void add_stacked(std::string role, const std::string& name, shape extents) {
    add(std::move(role), name, std::move(extents));
    out_.back().stacked = true;
  }
  /// A matrix [rows, columns], and its bias.
  void linear(const std::string& role, const std::string& name, std::int64_t rows, std::int64_t columns, bool bias) {
    add(role, name + ".weight", {rows, columns});
    if (bias) add(role + ".bias", name + ".bias", {rows});
  }

  void write(std::monostate) {}

  void write(const hf_attention& a) {
    const std::int64_t q = a.heads * a.head_dim, kv = a.kv_heads * a.head_dim;
    if (a.fused) {
      linear("qkv_proj", names_.attention + "Wqkv", q + 2 * kv, d_, a.qkv_bias);
      linear("o_proj", names_.attention + "out_proj", d_, q, a.out_bias);
      return;
    }
    linear("q_proj", names_.attention + "q_proj", q, d_, a.qkv_bias);
    linear("k_proj", names_.attention + "k_proj", kv, d_, a.qkv_bias);
    linear("v_proj", names_.attention + "v_proj", kv, d_, a.qkv_bias);
    linear("o_proj", names_.attention + "o_proj", d_, q, a.out_bias);
  }

  void write(const hf_mamba1& m) {
    const std::string& at = names_.mamba;
    linear("in_proj", at + "in_proj", 2 * m.inner, d_, m.bias);
    add("conv", at + "conv1d.weight", {m.inner, 1, m.conv});
    if (m.conv_bias) add("conv.bias", at + "conv1d.bias", {m.inner});
    linear("x_proj", at + "x_proj", m.dt_rank + 2 * m.state, m.inner, false);
    linear("dt_proj", at + "dt_proj", m.inner, m.dt_rank, true);
    add("A_log", at + "A_log", {m.inner, m.state});
    add("D", at + "D", {m.inner});
    if (m.inner_norms) {
      add("dt_norm", at + "dt_layernorm.weight", {m.dt_rank});
      add("B_norm", at + "b_layernorm.weight", {m.state});
      add("C_norm", at + "c_layernorm.weight", {m.state});
    }
    linear("out_proj", at + "out_proj", d_, m.inner, m.bias);
  }

  void write(const hf_mamba2& m) {
    const std::string& at = names_.mamba;
    const std::int64_t inner = m.heads * m.head_dim, convolved = inner + 2 * m.groups * m.state;
    linear("in_proj", at + "in_proj", inner + convolved + m.heads, d_, m.bias);
    add("conv", at + "conv1d.weight", {convolved, 1, m.conv});
    if (m.conv_bias) add("conv.bias", at + "conv1d.bias", {convolved});
    add("dt_bias", at + "dt_bias", {m.heads});
    add("A_log", at + "A_log", {m.heads});
    add("D", at + "D", {m.heads});
    add("gated_norm", at + "norm.weight", {inner});
    linear("out_proj", at + "out_proj", d_, inner, m.bias);
  }

  void write(const hf_hyena& h) {
    linear("projections", "projections", 3 * d_, d_, true);
    add("short_filter", "filter.short_filter_weight", {3 * d_, 1, h.short_filter});
    if (h.short_bias) add("short_filter.bias", "filter.short_filter_bias", {3 * d_});
    add("poles", "filter.poles", {h.filters, h.state, 1, 2});
    add("residues", "filter.residues", {h.filters, h.state, 1, 2});
    add("skip", "filter.D", {d_});
    linear("out_filter", "out_filter_dense", d_, d_, true);
  }

  void write(const hf_monarch& m) {
    linear("in_proj", names_.attention + "in_linear", 3 * d_, d_, true);
    add("short_filter", names_.attention + "short_filter.weight", {3 * d_, 1, m.short_filter});
    add("short_filter.bias", names_.attention + "short_filter.bias", {3 * d_});
    implicit_filter(m, "filter", names_.attention + "filter_fn.");
    if (m.residual_long_conv) implicit_filter(m, "residual_filter", names_.attention + "filter_fn2.");
    linear("out_proj", names_.attention + "out_linear", d_, d_, true);
  }

  /// Layers 0, 2, 4, 6 are linear; 1, 3, 5 are one and the same sine, whose frequencies both directions share.
  void implicit_filter(const hf_monarch& m, const std::string& role, const std::string& at) {
    for (const bool reverse : {false, true}) {
      if (reverse && !m.bidirectional) continue;
      const std::string network = at + (reverse ? "implicit_filter_rev." : "implicit_filter."), end = reverse ? ".reverse" : "";
      linear(role + ".0" + end, network + "0", m.order, m.emb, true);
      linear(role + ".2" + end, network + "2", m.order, m.order, true);
      linear(role + ".4" + end, network + "4", m.order, m.order, true);
      linear(role + ".6" + end, network + "6", d_, m.order, false);
    }
    add(role + ".freq", at + "implicit_filter.1.freq", {1, m.order});
    add(role + ".D", at + "bias", {d_});
    add(role + ".positions", at + "pos_emb.z", {1, m.context, m.emb});
    add(role + ".times", at + "pos_emb.t", {1, m.context, 1});
    add(role + ".decay", at + "modulation.deltas", {1, 1, d_});
  }

  void write(const hf_mlp& m) {
    const std::string& at = names_.channel;
    switch (config_.family) {
      case hf_family::striped_hyena:  // l3(act(l1 x) * l2 x)
        linear("gate_proj", at + "l1", m.inner, d_, m.bias);
        linear("up_proj", at + "l2", m.inner, d_, m.bias);
        linear("down_proj", at + "l3", d_, m.inner, m.bias);
        return;
      case hf_family::m2_bert: return write_blocks(m);
      case hf_family::granite_hybrid:
        linear("gate_up_proj", at + "input_linear", 2 * m.inner, d_, false);
        linear("down_proj", at + "output_linear", d_, m.inner, false);
        return;
      default: break;
    }
    if (m.gated) linear("gate_proj", at + "gate_proj", m.inner, d_, m.bias);
    linear("up_proj", at + "up_proj", m.inner, d_, m.bias);
    linear("down_proj", at + "down_proj", d_, m.inner, m.bias);
  }

  /// Block-diagonal matrices are [blocks, rows of a block, columns of a block].
  void write_blocks(const hf_mlp& m) {
    const std::int64_t rows = m.gated ? 2 * m.inner : m.inner, n = m.blocks;
    const auto blocks = [n](std::int64_t out, std::int64_t in) { return n == 1 ? shape{out, in} : shape{n, out / n, in / n}; };
    add(m.gated ? "gate_up_proj" : "up_proj", names_.channel + "gated_layers.weight", blocks(rows, d_));
    add("down_proj", names_.channel + "wo.weight", blocks(d_, m.inner));
    add("down_proj.bias", names_.channel + "wo.bias", {d_});
  }

  void write(const hf_moe& m) {
    const std::string& at = names_.channel;
    if (m.fused) return write_fused(m);
    const bool mixtral = config_.family == hf_family::mixtral, jamba = config_.family == hf_family::jamba;
    add("router", at + (jamba ? "router.weight" : "gate.weight"), {m.experts, d_});
    if (m.router == hf_moe::router_kind::sigmoid) add("router.correction", at + "gate.e_score_correction_bias", {m.experts});
    if (m.stacked) {  // as GGUF has them; no folder of Transformers does
      if (m.gated) add_stacked("gate_proj", at + "experts.gate_proj.weight", {m.experts, m.inner, d_});
      add_stacked("up_proj", at + "experts.up_proj.weight", {m.experts, m.inner, d_});
      add_stacked("down_proj", at + "experts.down_proj.weight", {m.experts, d_, m.inner});
    }
    for (std::int64_t e = 0; !m.stacked && e < m.experts; ++e) {
      const std::string expert = at + "experts." + std::to_string(e) + ".";
      if (m.gated) add("gate_proj", expert + (mixtral ? "w1.weight" : "gate_proj.weight"), {m.inner, d_}, e);
      add("up_proj", expert + (mixtral ? "w3.weight" : "up_proj.weight"), {m.inner, d_}, e);
      add("down_proj", expert + (mixtral ? "w2.weight" : "down_proj.weight"), {d_, m.inner}, e);
    }
    if (m.shared_inner == 0) return;
    linear("shared.up_proj", at + "shared_experts.up_proj", m.shared_inner, d_, false);
    linear("shared.down_proj", at + "shared_experts.down_proj", d_, m.shared_inner, false);
  }

  void write_fused(const hf_moe& m) {
    add("router", "block_sparse_moe.router.layer.weight", {m.experts, d_});
    add_stacked("gate_up_proj", "block_sparse_moe.input_linear.weight", {m.experts, 2 * m.inner, d_});
    add_stacked("down_proj", "block_sparse_moe.output_linear.weight", {m.experts, d_, m.inner});
    linear("shared.gate_up_proj", names_.channel + "input_linear", 2 * m.shared_inner, d_, false);
    linear("shared.down_proj", names_.channel + "output_linear", d_, m.shared_inner, false);
  }

  const hf_config& config_;
  layer_names names_;
  std::string prefix_;
  std::int64_t d_;
  std::vector<hf_tensor> out_;
};

std::vector<hf_tensor> m2_bert_tensors(const hf_config& c) {
  std::vector<hf_tensor> out{{"embedding", -1, "bert.embeddings.word_embeddings.weight", {c.vocabulary, c.d_model}}};
  if (c.positions > 0) out.push_back({"position_embedding", -1, "bert.embeddings.position_embeddings.weight", {c.positions, c.d_model}});
  out.push_back({"token_type_embedding", -1, "bert.embeddings.token_type_embeddings.weight", {c.token_types, c.d_model}});
  out.push_back({"embedding_norm", -1, "bert.embeddings.LayerNorm.weight", {c.d_model}});
  out.push_back({"embedding_norm.bias", -1, "bert.embeddings.LayerNorm.bias", {c.d_model}});
  if (c.architecture != "BertForMaskedLM") {
    out.push_back({"pooler", -1, "bert.pooler.dense.weight", {c.d_model, c.d_model}});
    out.push_back({"pooler.bias", -1, "bert.pooler.dense.bias", {c.d_model}});
    return out;
  }
  const std::string head = "cls.predictions.";
  out.push_back({"head_transform", -1, head + "transform.dense.weight", {c.d_model, c.d_model}});
  out.push_back({"head_transform.bias", -1, head + "transform.dense.bias", {c.d_model}});
  out.push_back({"head_norm", -1, head + "transform.LayerNorm.weight", {c.d_model}});
  out.push_back({"head_norm.bias", -1, head + "transform.LayerNorm.bias", {c.d_model}});
  out.push_back({"head.bias", -1, head + "decoder.bias", {c.vocabulary}});
  if (!c.tied_head) out.push_back({"head", -1, head + "decoder.weight", {c.vocabulary, c.d_model}});
  return out;
}

}  // namespace

std::vector<hf_tensor> model_tensors(const hf_config& config) {
  struct three {
    const char *embedding, *norm, *head;
  };
  const auto names = [&]() -> three {
    switch (config.family) {
      case hf_family::mamba:
      case hf_family::mamba2:
      case hf_family::nemotron_h: return {"backbone.embeddings.weight", "backbone.norm_f.weight", "lm_head.weight"};
      case hf_family::bamba:
      case hf_family::jamba: return {"model.embed_tokens.weight", "model.final_layernorm.weight", "lm_head.weight"};
      case hf_family::striped_hyena: return {"backbone.embedding_layer.weight", "backbone.norm.scale", "backbone.unembed.weight"};
      default: return {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"};
    }
  }();
  if (config.family == hf_family::m2_bert) return m2_bert_tensors(config);
  std::vector<hf_tensor> out{{"embedding", -1, names.embedding, {config.vocabulary, config.d_model}}};
  if (config.final_norm) out.push_back({"final_norm", -1, names.norm, {config.d_model}});
  if (!config.tied_head) out.push_back({"head", -1, names.head, {config.vocabulary, config.d_model}});
  return out;
}

std::vector<hf_tensor> layer_tensors(const hf_config& config, std::size_t layer) {
  ensure(layer < config.layers.size(), "layer_tensors: no such layer");
  return layer_writer(config, layer).write(config.layers[layer]);
}

}  // namespace isthmus
