#include "framework/models/export_parts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace isthmus {

namespace {

bool suits_mixer(std::string_view type, const layer_shape& s) {
  const bool positions_alone = type == "llama" || type == "mixtral" || type == "bamba" || type == "stripedhyena",
             none_alone = type == "jamba" || type == "nemotron_h";
  if (s.kind->name == "mamba1") return s.flag("scan_norms") == (type == "jamba");
  if (s.kind->name != "attention" || type == "granitemoehybrid") return true;
  return !has_own_scale(s) && s.flag("rotary") != none_alone && s.flag("rotary") == positions_alone;
}

bool suits_channel(std::string_view type, const layer_shape& s) {
  if (s.kind->name == "mlp") return s.flag("ffn_gated") == (type != "nemotron_h");
  if (s.kind->name != "moe") return true;
  if (type == "nemotron_h") return s.word("moe_router") == "sigmoid" && !s.flag("moe_gated");
  const std::string_view router = type == "jamba" ? "softmax_all" : "softmax";
  return s.word("moe_router") == router && s.flag("moe_gated") && (s.integer("moe_shared_hidden") > 0) == (type == "granitemoehybrid");
}

/// Kinds that the architecture has, but with other options than the one that another architecture is for.
bool suits(const architecture& a, const layer_pair& layer) {
  return (!layer.mixer || suits_mixer(a.type, *layer.mixer)) && (!layer.channel || suits_channel(a.type, *layer.channel));
}

bool has_kinds(const architecture& a, const layer_pair& layer) {
  const auto has = [](const std::vector<std::string_view>& kinds, const std::optional<layer_shape>& part) {
    return std::ranges::find(kinds, kind_of(part)) != kinds.end();
  };
  return has(a.mixers, layer.mixer) && has(a.channels, layer.channel);
}

}  // namespace

bool has_own_scale(const layer_shape& attention) {
  const double scale = attention.real("attention_scale");
  return scale != 0 && std::abs(scale * std::sqrt(attention.real("head_dim")) - 1) > 1e-12;
}

std::string kind_of(const std::optional<layer_shape>& shape) { return shape ? std::string(shape->kind->name) : "none"; }

expected<architecture> encoder_architecture_of(const std::vector<layer_pair>& layers) {
  const architecture m2_bert{"BertForMaskedLM", "m2_bert", {"monarch"}, {"monarch_mlp"}};
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (!has_kinds(m2_bert, layers[i]))
      return fail(errc::unsupported,
                  fmt::format("layer {} is {}/{}, and of encoders those of monarch/monarch_mlp alone are written (M2-BERT)", i,
                              kind_of(layers[i].mixer), kind_of(layers[i].channel)));
  return m2_bert;
}

expected<architecture> architecture_of(const std::vector<layer_pair>& layers) {
  std::vector<architecture> left{
      {"LlamaForCausalLM", "llama", {"attention"}, {"swiglu", "mlp"}},
      {"MixtralForCausalLM", "mixtral", {"attention"}, {"moe"}},
      {"MambaForCausalLM", "mamba", {"mamba1"}, {"none"}},
      {"Mamba2ForCausalLM", "mamba2", {"mamba2"}, {"none"}},
      {"BambaForCausalLM", "bamba", {"mamba2", "attention"}, {"swiglu", "mlp"}},
      {"GraniteMoeHybridForCausalLM", "granitemoehybrid", {"mamba2", "attention"}, {"swiglu", "moe"}},
      {"JambaForCausalLM", "jamba", {"mamba1", "attention"}, {"swiglu", "moe"}},
      {"NemotronHForCausalLM", "nemotron_h", {"mamba2", "attention", "none"}, {"none", "mlp", "moe"}, true, false},
      {"StripedHyenaModelForCausalLM", "stripedhyena", {"hyena", "attention"}, {"swiglu", "mlp"}}};
  for (std::size_t i = 0; i < layers.size(); ++i) {
    std::erase_if(left, [&](const architecture& a) { return !has_kinds(a, layers[i]); });
    if (left.empty())
      return fail(errc::unsupported,
                  fmt::format("layer {} is {}/{}, which no architecture has{}; docs/formats.md lists those that are written", i,
                              kind_of(layers[i].mixer), kind_of(layers[i].channel), i > 0 ? " beside the layers before it" : ""));
  }
  const auto best = std::ranges::find_if(
      left, [&](const architecture& a) { return std::ranges::all_of(layers, [&](const layer_pair& layer) { return suits(a, layer); }); });
  architecture found = best != left.end() ? *best : left.front();
  if (found.type == "llama" && layers.front().mixer->integer("attention_window") != 0)
    found = {"MistralForCausalLM", "mistral", {"attention"}, {"swiglu", "mlp"}};
  return found;
}

}  // namespace isthmus
