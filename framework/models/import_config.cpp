#include "framework/layers/catalog.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import.hpp"
#include "framework/models/import_m2_bert.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace isthmus {

namespace {

/// A kind of layer and what it is told.
struct told {
  const char* kind = "none";
  layer_options options;
};

/// What our layers cannot do, in words; empty when there is nothing.
using objection = std::string;

std::string_view name_of(hf_activation activation) {
  switch (activation) {
    case hf_activation::silu: return "silu";
    case hf_activation::gelu: return "gelu";
    case hf_activation::gelu_tanh: return "gelu_tanh";
    case hf_activation::relu2: return "relu2";
  }
  throw contract_error("name_of: no such activation");
}

/// A word as the value of an option.
double place_of(std::string_view word, std::string_view key) {
  const auto words = builtin_layers().find_option(key)->words;
  const auto at = std::ranges::find(words, word);
  ensure(at != words.end(), "config_from: an option without that word");
  return static_cast<double>(at - words.begin());
}

objection translate(std::monostate, const hf_config&, told&) { return {}; }

objection translate(const hf_attention& a, const hf_config& config, told& out) {
  out.kind = "attention";
  out.options = {{"n_heads", static_cast<double>(a.heads)},
                 {"n_kv_heads", static_cast<double>(a.kv_heads)},
                 {"head_dim", static_cast<double>(a.head_dim)},
                 {"rotary", a.rotary_dim != 0 ? 1 : 0},
                 {"attention_window", static_cast<double>(a.window)}};
  if (a.qkv_bias) out.options["qkv_bias"] = 1;
  if (a.out_bias) out.options["attention_out_bias"] = 1;
  if (a.rotary_dim != 0 && a.rotary_dim != a.head_dim) out.options["rotary_dim"] = static_cast<double>(a.rotary_dim);
  if (std::abs(a.scale * std::sqrt(static_cast<double>(a.head_dim)) - 1) > 1e-12) out.options["attention_scale"] = a.scale;
  if (!config.rope || a.rotary_dim == 0) return {};
  const hf_rope& rope = *config.rope;
  out.options["rope_theta"] = rope.theta;
  if (rope.scaling == hf_rope::scaling_kind::linear) {  // Llama 3's rule where every wavelength is a long one
    out.options["rope_factor"] = rope.factor;
    out.options["rope_low"] = 1;
    out.options["rope_high"] = 4;
    out.options["rope_context"] = 1;
  }
  if (rope.scaling == hf_rope::scaling_kind::llama3) {
    out.options["rope_factor"] = rope.factor;
    out.options["rope_low"] = rope.low_freq_factor;
    out.options["rope_high"] = rope.high_freq_factor;
    out.options["rope_context"] = static_cast<double>(rope.original_context);
  }
  return {};
}

objection translate(const hf_mamba2& m, const hf_config&, told& out) {
  if (!m.conv_bias) return "Mamba-2 without a bias of its convolution";
  out.kind = "mamba2";
  out.options = {{"ssm_inner", static_cast<double>(m.heads * m.head_dim)},
                 {"ssm_head_dim", static_cast<double>(m.head_dim)},
                 {"ssm_state", static_cast<double>(m.state)},
                 {"ssm_groups", static_cast<double>(m.groups)},
                 {"conv_width", static_cast<double>(m.conv)}};
  if (m.bias) out.options["ssm_bias"] = 1;
  if (m.dt_min != 0) out.options["ssm_dt_min"] = m.dt_min;
  if (std::isfinite(m.dt_max)) out.options["ssm_dt_max"] = m.dt_max;
  return {};
}

objection translate(const hf_mamba1& m, const hf_config&, told& out) {
  if (m.bias || !m.conv_bias) return "Mamba with biases of its projections, or without one of its convolution";
  out.kind = "mamba1";
  out.options = {{"ssm_inner", static_cast<double>(m.inner)},
                 {"scan_state", static_cast<double>(m.state)},
                 {"scan_rank", static_cast<double>(m.dt_rank)},
                 {"scan_norms", m.inner_norms ? 1 : 0},
                 {"conv_width", static_cast<double>(m.conv)}};
  return {};
}

objection translate(const hf_hyena& h, const hf_config&, told& out) {
  out.kind = "hyena";
  out.options = {{"hyena_filter", place_of("modal", "hyena_filter")},
                 {"hyena_modes", static_cast<double>(h.state)},
                 {"hyena_short", static_cast<double>(h.short_filter)},
                 {"hyena_bias", 1}};
  return {};
}

objection translate(const hf_monarch&, const hf_config&, told&) { return "a Monarch mixer"; }

objection translate(const hf_mlp& m, const hf_config&, told& out) {
  if (m.blocks != 1) return "a channel mixer of block-diagonal matrices";
  out.options = {{"ffn_hidden", static_cast<double>(m.inner)}};
  if (m.gated && m.activation == hf_activation::silu && !m.bias) {
    out.kind = "swiglu";
    return {};
  }
  out.kind = "mlp";
  out.options["ffn_activation"] = place_of(name_of(m.activation), "ffn_activation");
  out.options["ffn_gated"] = m.gated ? 1 : 0;
  out.options["ffn_bias"] = m.bias ? 1 : 0;
  return {};
}

objection translate(const hf_moe& m, const hf_config&, told& out) {
  const bool sigmoids = m.router == hf_moe::router_kind::sigmoid;
  if (sigmoids && !m.renormalise) return "a router of experts whose sigmoids do not add up to 1";
  if (m.active_groups < m.expert_groups) return "a router that chooses among groups of experts";
  out.kind = "moe";
  out.options = {{"moe_experts", static_cast<double>(m.experts)},
                 {"moe_active", static_cast<double>(m.active)},
                 {"moe_hidden", static_cast<double>(m.inner)},
                 {"moe_shared_hidden", static_cast<double>(m.shared_inner)},
                 {"moe_activation", place_of(name_of(m.activation), "moe_activation")},
                 {"moe_gated", m.gated ? 1 : 0},
                 {"moe_router", place_of(sigmoids        ? "sigmoid"
                                         : m.renormalise ? "softmax"
                                                         : "softmax_all",
                                         "moe_router")},
                 {"moe_scale", m.scale},
                 {"moe_balance", 0}};
  return {};
}

/// The name by which a layer is listed: its kind, or a variant when the model's options say otherwise.
std::string name_of(const told& t, model_config& model) {
  const std::string kind = t.kind;
  if (kind == "none") return kind;
  const auto agrees = [&](const auto& pair) { return model.option(pair.first) == pair.second; };
  const bool known = std::ranges::any_of(t.options, [&](const auto& pair) { return model.options.contains(pair.first); });
  if (!known) model.options.insert(t.options.begin(), t.options.end());
  if (std::ranges::all_of(t.options, agrees)) return kind;
  for (const auto& v : model.variants)
    if (v.kind == kind && v.options == t.options) return v.name;
  model.variants.push_back({fmt::format("{}_{}", kind, model.variants.size() + 1), kind, t.options});
  return model.variants.back().name;
}

}  // namespace

expected<model_config> config_from(const hf_config& config, const std::string& where) {
  if (config.family == hf_family::m2_bert) return m2_bert_config(config, where);
  const auto cannot = [&](const std::string& what) {
    return fail(errc::unsupported, fmt::format("{}: {} has {}, which no layer of ours does", where, config.architecture, what));
  };
  if (config.norm != hf_config::norm_kind::rms || !config.final_norm) return cannot("norms other than RMS norms before each part");
  model_config model;
  model.vocabulary = config.vocabulary;
  model.d_model = config.d_model;
  model.norm_eps = static_cast<float>(config.norm_eps);
  model.tied_head = config.tied_head && config.embedding_multiplier == 1 && config.logits_divisor == 1;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    told mixer, channel;
    const auto visit = [&](const auto& part, told& out) {
      return std::visit([&](const auto& p) { return translate(p, config, out); }, part);
    };
    for (const auto& what : {visit(config.layers[i].mixer, mixer), visit(config.layers[i].channel, channel)})
      if (!what.empty()) return cannot(fmt::format("in layer {} {}", i, what));
    const std::string mixer_name = name_of(mixer, model);
    model.layers.push_back(mixer_name + "/" + name_of(channel, model));
  }
  if (auto ok = check(model); !ok) return fail(errc::unsupported, fmt::format("{}: {}", where, ok.error().message));
  return model;
}

}  // namespace isthmus
