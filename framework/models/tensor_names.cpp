#include "framework/models/tensor_names.hpp"

#include "framework/models/import_m2_bert.hpp"

#include <fmt/format.h>

#include <map>
#include <string_view>

namespace isthmus {

namespace {

/// Behind the layer's prefix; of an expert, behind its folder too.
const std::map<std::string, std::vector<std::string>, std::less<>>& names_of_roles() {
  static const std::map<std::string, std::vector<std::string>, std::less<>> names{
      {"embedding", {"model.embed_tokens.weight"}},
      {"final_norm", {"model.final_layernorm.weight"}},
      {"head", {"lm_head.weight"}},
      {"mixer_norm", {"input_layernorm.weight"}},
      {"channel_norm", {"pre_ff_layernorm.weight"}},
      {"q_proj", {"self_attn.q_proj.weight"}},
      {"k_proj", {"self_attn.k_proj.weight"}},
      {"v_proj", {"self_attn.v_proj.weight"}},
      {"qkv_proj", {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"}},
      {"o_proj", {"self_attn.o_proj.weight"}},
      {"q_proj.bias", {"self_attn.q_proj.bias"}},
      {"k_proj.bias", {"self_attn.k_proj.bias"}},
      {"v_proj.bias", {"self_attn.v_proj.bias"}},
      {"qkv_proj.bias", {"self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"}},
      {"o_proj.bias", {"self_attn.o_proj.bias"}},
      {"in_proj", {"mamba.in_proj.weight"}},
      {"in_proj.bias", {"mamba.in_proj.bias"}},
      {"conv", {"mamba.conv1d.weight"}},
      {"conv.bias", {"mamba.conv1d.bias"}},
      {"x_proj", {"mamba.x_proj.weight"}},
      {"dt_proj", {"mamba.dt_proj.weight"}},
      {"dt_proj.bias", {"mamba.dt_proj.bias"}},
      {"dt_bias", {"mamba.dt_bias"}},
      {"A_log", {"mamba.A_log"}},
      {"D", {"mamba.D"}},
      {"dt_norm", {"mamba.dt_layernorm.weight"}},
      {"B_norm", {"mamba.b_layernorm.weight"}},
      {"C_norm", {"mamba.c_layernorm.weight"}},
      {"gated_norm", {"mamba.norm.weight"}},
      {"out_proj", {"mamba.out_proj.weight"}},
      {"out_proj.bias", {"mamba.out_proj.bias"}},
      {"projections", {"hyena.in_proj.weight"}},
      {"projections.bias", {"hyena.in_proj.bias"}},
      {"short_filter", {"hyena.short_filter.weight"}},
      {"short_filter.bias", {"hyena.short_filter.bias"}},
      {"poles", {"hyena.filter.poles"}},
      {"residues", {"hyena.filter.residues"}},
      {"skip", {"hyena.filter.D"}},
      {"out_filter", {"hyena.out_proj.weight"}},
      {"out_filter.bias", {"hyena.out_proj.bias"}},
      {"gate_proj", {"feed_forward.gate_proj.weight"}},
      {"up_proj", {"feed_forward.up_proj.weight"}},
      {"gate_up_proj", {"feed_forward.gate_proj.weight", "feed_forward.up_proj.weight"}},
      {"down_proj", {"feed_forward.down_proj.weight"}},
      {"gate_proj.bias", {"feed_forward.gate_proj.bias"}},
      {"up_proj.bias", {"feed_forward.up_proj.bias"}},
      {"down_proj.bias", {"feed_forward.down_proj.bias"}},
      {"router", {"feed_forward.router.weight"}},
      {"router.correction", {"feed_forward.router.e_score_correction_bias"}},
      {"shared.up_proj", {"feed_forward.shared_expert.up_proj.weight"}},
      {"shared.gate_up_proj", {"feed_forward.shared_expert.gate_proj.weight", "feed_forward.shared_expert.up_proj.weight"}},
      {"shared.down_proj", {"feed_forward.shared_expert.down_proj.weight"}},
  };
  return names;
}

}  // namespace

std::vector<std::string> our_tensor_names(hf_family family, const std::string& prefix, const hf_tensor& tensor) {
  if (family == hf_family::m2_bert) {
    const std::string name = m2_bert_tensor_name(prefix, tensor.role);
    return name.empty() ? std::vector<std::string>() : std::vector{name};
  }
  const auto at = names_of_roles().find(tensor.role);
  if (at == names_of_roles().end()) return {};
  constexpr std::string_view folder = "feed_forward.";
  std::vector<std::string> out;
  const auto add = [&](std::int64_t expert) {
    for (const std::string& name : at->second)
      if (expert < 0)
        out.push_back(prefix + name);
      else
        out.push_back(fmt::format("{}{}experts.{}.{}", prefix, folder, expert, name.substr(folder.size())));
  };
  if (tensor.stacked)
    for (std::int64_t expert = 0; expert < tensor.shape.front(); ++expert) add(expert);
  else
    add(tensor.expert);
  return out;
}

}  // namespace isthmus
