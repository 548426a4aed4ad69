#include "framework/models/import.hpp"

#include "framework/formats/byte_source.hpp"
#include "framework/formats/hugging_face.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import_m2_bert.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>

namespace isthmus {

namespace {

/// What our tensors are called, by the role that hf_tensor gives; several when one tensor of theirs is consecutive ones of ours.
/// expert: below zero for what belongs to none.
std::string our_name(const std::string& prefix, const std::string& role, std::int64_t expert) {
  static const std::map<std::string, const char*, std::less<>> names{
      {"embedding", "model.embed_tokens.weight"},
      {"final_norm", "model.final_layernorm.weight"},
      {"head", "lm_head.weight"},
      {"mixer_norm", "input_layernorm.weight"},
      {"channel_norm", "pre_ff_layernorm.weight"},
      {"q_proj", "self_attn.q_proj.weight"},
      {"k_proj", "self_attn.k_proj.weight"},
      {"v_proj", "self_attn.v_proj.weight"},
      {"qkv_proj", "self_attn.q_proj.weight"},  // k and v follow without a gap
      {"o_proj", "self_attn.o_proj.weight"},
      {"q_proj.bias", "self_attn.q_proj.bias"},
      {"k_proj.bias", "self_attn.k_proj.bias"},
      {"v_proj.bias", "self_attn.v_proj.bias"},
      {"o_proj.bias", "self_attn.o_proj.bias"},
      {"in_proj", "mamba.in_proj.weight"},
      {"in_proj.bias", "mamba.in_proj.bias"},
      {"conv", "mamba.conv1d.weight"},
      {"conv.bias", "mamba.conv1d.bias"},
      {"x_proj", "mamba.x_proj.weight"},
      {"dt_proj", "mamba.dt_proj.weight"},
      {"dt_proj.bias", "mamba.dt_proj.bias"},
      {"dt_bias", "mamba.dt_bias"},
      {"A_log", "mamba.A_log"},
      {"D", "mamba.D"},
      {"dt_norm", "mamba.dt_layernorm.weight"},
      {"B_norm", "mamba.b_layernorm.weight"},
      {"C_norm", "mamba.c_layernorm.weight"},
      {"gated_norm", "mamba.norm.weight"},
      {"out_proj", "mamba.out_proj.weight"},
      {"out_proj.bias", "mamba.out_proj.bias"},
      {"gate_proj", "feed_forward.gate_proj.weight"},
      {"up_proj", "feed_forward.up_proj.weight"},
      {"gate_up_proj", "feed_forward.gate_proj.weight"},  // up follows without a gap
      {"down_proj", "feed_forward.down_proj.weight"},
      {"gate_proj.bias", "feed_forward.gate_proj.bias"},
      {"up_proj.bias", "feed_forward.up_proj.bias"},
      {"down_proj.bias", "feed_forward.down_proj.bias"},
      {"router", "feed_forward.router.weight"},
      {"shared.gate_up_proj", "feed_forward.shared_expert.gate_proj.weight"},  // up follows without a gap
      {"shared.down_proj", "feed_forward.shared_expert.down_proj.weight"},
  };
  const auto at = names.find(role);
  if (at == names.end()) return {};
  const std::string_view name = at->second, folder = "feed_forward.";
  if (expert < 0 || !name.starts_with(folder)) return prefix + std::string(name);
  return fmt::format("{}{}experts.{}.{}", prefix, folder, expert, name.substr(folder.size()));
}

/// Copies tensors into the flat array of a model.
class filler {
public:
  filler(const tensor_index& tensors, const parameter_layout& layout, std::span<float> weights, std::string where)
      : tensors_(tensors), weights_(weights), where_(std::move(where)) {
    for (const auto& slot : layout.slots) slots_.emplace(slot.name, &slot);
  }

  /// experts: of a tensor that holds those of all experts behind each other, how many; else 0.
  expected<void> fill(const hf_tensor& t, const std::string& prefix, double factor, std::int64_t experts = 0) {
    const auto stored = tensors_.expect(t.name, t.shape, where_);
    if (!stored) return stored.failure();
    const std::int64_t parts = std::max<std::int64_t>(1, experts), count = (*stored)->count() / parts;
    for (std::int64_t part = 0; part < parts; ++part)
      if (auto ok = fill_slot(t, our_name(prefix, t.role, experts > 0 ? part : t.expert), **stored, part * count, count, factor); !ok)
        return ok;
    ++filled_;
    return {};
  }
  std::size_t filled() const { return filled_; }

private:
  expected<void> fill_slot(const hf_tensor& t, const std::string& name, const stored_tensor& stored, std::int64_t begin, std::int64_t count,
                           double factor) {
    const auto slot = slots_.find(name);
    if (slot == slots_.end())
      return fail(errc::unsupported, fmt::format("{}: no tensor of ours takes \"{}\" ({})", where_, t.name, t.role));
    const auto out = weights_.subspan(static_cast<std::size_t>(slot->second->offset), static_cast<std::size_t>(count));
    if (auto ok = stored.read_floats(begin, out); !ok) return ok;
    if (factor != 1)
      std::ranges::transform(out, out.begin(), [factor](float w) { return static_cast<float>(factor * static_cast<double>(w)); });
    return {};
  }

  const tensor_index& tensors_;
  std::map<std::string, const tensor_slot*, std::less<>> slots_;
  std::span<float> weights_;
  std::string where_;
  std::size_t filled_ = 0;
};

/// An embedding that is the head as well, where the two differ by factors.
void untie(const hf_config& theirs, const parameter_layout& layout, std::span<float> weights) {
  const auto find = [&](std::string_view name) {
    return weights.begin() + std::ranges::find(layout.slots, name, &tensor_slot::name)->offset;
  };
  const auto embedding = find("model.embed_tokens.weight"), head = find("lm_head.weight");
  const double factor = 1 / theirs.logits_divisor;
  std::transform(embedding, embedding + theirs.vocabulary * theirs.d_model, head,
                 [factor](float w) { return static_cast<float>(factor * static_cast<double>(w)); });
}

expected<void> fill_all(const hf_config& theirs, const model_config& ours, const hugging_face_weights& from, std::span<float> weights) {
  const parameter_layout layout = hybrid_layout(ours);
  filler into(from.tensors, layout, weights, from.where);
  for (const auto& t : model_tensors(theirs))
    if (auto ok = into.fill(t, "", t.role == "head" ? 1 / theirs.logits_divisor : 1); !ok) return ok;
  if (theirs.tied_head && !ours.tied_head) untie(theirs, layout, weights);
  if (theirs.embedding_multiplier != 1) {
    const auto& slot = layout.slots.front();
    for (auto& w : weights.subspan(static_cast<std::size_t>(slot.offset), static_cast<std::size_t>(slot.count)))
      w = static_cast<float>(theirs.embedding_multiplier * static_cast<double>(w));
  }
  for (std::size_t i = 0; i < theirs.layers.size(); ++i) {
    const auto* moe = std::get_if<hf_moe>(&theirs.layers[i].channel);
    for (const auto& t : layer_tensors(theirs, i)) {
      const bool writes_residual =
          t.role.starts_with("o_proj") || t.role.starts_with("out_proj") || t.role.find("down_proj") != std::string::npos;
      const std::int64_t experts = moe && moe->stacked && t.shape.size() == 3 && t.role.ends_with("_proj") ? moe->experts : 0;
      const double factor = writes_residual ? theirs.residual_multiplier : 1;
      if (auto ok = into.fill(t, fmt::format("model.layers.{}.", i), factor, experts); !ok) return ok;
    }
  }
  if (into.filled() != from.tensors.size())
    return fail(errc::unsupported,
                fmt::format("{}: {} tensors, of which config.json tells {}", from.where, from.tensors.size(), into.filled()));
  return {};
}

expected<hf_config> read_config(const std::string& folder, const std::string& path) {
  constexpr std::uint64_t bytes_max = 16 << 20;
  const auto source = open_source(folder, "config.json");
  if (!source) return source.failure();
  const auto text = (*source)->read_text(bytes_max);
  if (!text) return text.failure();
  return read_hf_config(*text, path);
}

}  // namespace

std::string our_tensor_name(const std::string& prefix, const hf_tensor& tensor) { return our_name(prefix, tensor.role, tensor.expert); }

expected<imported_model> import_checkpoint(const hf_config& theirs, const hugging_face_weights& from, const std::string& where) {
  auto ours = config_from(theirs, where);
  if (!ours) return ours.failure();
  auto weights = std::make_shared<float_array>(static_cast<std::size_t>(hybrid_layout(*ours).size));
  const auto fill = theirs.family == hf_family::m2_bert ? fill_m2_bert : fill_all;
  if (auto ok = fill(theirs, *ours, from, weights->span()); !ok) return ok.failure();
  return imported_model{std::move(*ours), std::move(weights)};
}

expected<model_config> config_of_hugging_face(const std::string& folder) {
  const std::string path = folder + "/config.json";
  const auto theirs = read_config(folder, path);
  if (!theirs) return theirs.failure();
  return config_from(*theirs, path);
}

expected<imported_model> import_hugging_face(const std::string& folder) {
  const std::string path = folder + "/config.json";
  const auto theirs = read_config(folder, path);
  if (!theirs) return theirs.failure();
  if (auto ok = config_from(*theirs, path); !ok) return ok.failure();  // before the weights are looked for
  const auto from = open_hugging_face(folder);
  if (!from) return from.failure();
  return import_checkpoint(*theirs, *from, path);
}

}  // namespace isthmus
