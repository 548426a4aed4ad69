#include "framework/formats/gguf_tensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <string_view>
#include <utility>

namespace isthmus {

namespace {

/// What llama.cpp calls the tensor of a role; empty where it has none. A layer's stand behind "blk.N.".
std::string gguf_name(const hf_tensor& tensor) {
  static const std::map<std::string, const char*, std::less<>> names{
      {"embedding", "token_embd.weight"},
      {"final_norm", "output_norm.weight"},
      {"head", "output.weight"},
      {"mixer_norm", "attn_norm.weight"},
      {"channel_norm", "ffn_norm.weight"},
      {"q_proj", "attn_q.weight"},
      {"q_proj.bias", "attn_q.bias"},
      {"k_proj", "attn_k.weight"},
      {"k_proj.bias", "attn_k.bias"},
      {"v_proj", "attn_v.weight"},
      {"v_proj.bias", "attn_v.bias"},
      {"o_proj", "attn_output.weight"},
      {"o_proj.bias", "attn_output.bias"},
      {"gate_proj", "ffn_gate.weight"},
      {"gate_proj.bias", "ffn_gate.bias"},
      {"up_proj", "ffn_up.weight"},
      {"up_proj.bias", "ffn_up.bias"},
      {"down_proj", "ffn_down.weight"},
      {"down_proj.bias", "ffn_down.bias"},
      {"router", "ffn_gate_inp.weight"},
      {"in_proj", "ssm_in.weight"},
      {"conv", "ssm_conv1d.weight"},
      {"conv.bias", "ssm_conv1d.bias"},
      {"x_proj", "ssm_x.weight"},
      {"dt_proj", "ssm_dt.weight"},
      {"dt_proj.bias", "ssm_dt.bias"},
      {"A_log", "ssm_a"},
      {"D", "ssm_d"},
      {"out_proj", "ssm_out.weight"},
  };
  const auto at = names.find(tensor.role);
  if (at == names.end()) return {};
  std::string name = at->second;
  if (tensor.stacked) name.insert(name.find('.'), "_exps");
  return name;
}

/// Without the one in a convolution's that GGUF leaves out.
std::vector<std::int64_t> squeezed(const hf_tensor& tensor) {
  std::vector<std::int64_t> shape = tensor.shape;
  if (tensor.role == "conv") std::erase(shape, 1);
  return shape;
}

/// llama.cpp rotates columns 2 j and 2 j + 1 of a head, Transformers j and j + half: the converter moves rows of q and k accordingly.
/// Moved back as they are encoded: a row is whole blocks.
expected<stored_tensor> in_halves(const stored_tensor& t, std::int64_t head_dim, const std::string& where) {
  const auto rows = static_cast<std::size_t>(t.shape[0]), dim = static_cast<std::size_t>(head_dim);
  if (t.bytes % rows != 0 || (t.shape.size() == 1 && t.encoding->block != 1))
    return fail(errc::unsupported, fmt::format("{}: tensor \"{}\" is {}, whose rows cannot be moved", where, t.name, t.encoding->name));
  const auto from = t.read();
  if (!from) return from.failure();
  const std::size_t row_bytes = from->size() / rows;
  std::vector<std::byte> to(from->size());
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t in_head = row % dim, half = in_head / (dim / 2), pair = in_head % (dim / 2);
    std::memcpy(to.data() + row * row_bytes, from->data() + (row - in_head + 2 * pair + half) * row_bytes, row_bytes);
  }
  stored_tensor out = t;
  out.source = memory_source(std::move(to), where);
  out.offset = 0;
  return out;
}

/// ssm_a = -exp(A_log).
expected<stored_tensor> as_logarithms(const stored_tensor& t, const std::string& where) {
  std::vector<float> values(static_cast<std::size_t>(t.count()));
  if (auto ok = t.read_floats(values); !ok) return ok.failure();
  for (float& a : values) {
    if (!(a < 0) || !std::isfinite(a))
      return fail(errc::out_of_range, fmt::format("{}: tensor \"{}\" holds {}, only numbers below 0 are allowed", where, t.name, a));
    a = static_cast<float>(std::log(-static_cast<double>(a)));
  }
  const auto bytes = std::as_bytes(std::span(values));
  stored_tensor out = t;
  out.encoding = &encoding_of(dtype::f32);
  out.source = memory_source({bytes.begin(), bytes.end()}, where);
  out.offset = 0;
  out.bytes = bytes.size();
  return out;
}

class finder {
public:
  finder(const hf_config& config, const gguf_file& file) : config_(config), file_(file) {}

  expected<tensor_index> find() {
    for (const auto& t : model_tensors(config_))
      if (auto ok = take(t, "", 0); !ok) return ok.failure();
    for (std::size_t i = 0; i < config_.layers.size(); ++i) {
      const auto* attention = std::get_if<hf_attention>(&config_.layers[i].mixer);
      for (const auto& t : layer_tensors(config_, i))
        if (auto ok = take(t, fmt::format("blk.{}.", i), attention != nullptr ? attention->head_dim : 0); !ok) return ok.failure();
    }
    taken_.insert("rope_freqs.weight");  // told by the config
    for (const auto& t : file_.tensors.all())
      if (!taken_.contains(t.name))
        return fail(errc::unsupported, fmt::format("{}: tensor \"{}\" is none that architecture {} has here", file_.where, t.name,
                                                   family_name(config_.family)));
    return tensor_index(std::move(out_));
  }

private:
  expected<void> take(const hf_tensor& wanted, const std::string& prefix, std::int64_t head_dim) {
    const std::string name = prefix + gguf_name(wanted);
    const auto stored = file_.tensors.expect(name, squeezed(wanted), file_.where);
    if (!stored) return stored.failure();
    taken_.insert(name);
    const bool rotated = wanted.role.starts_with("q_proj") || wanted.role.starts_with("k_proj");
    auto made = rotated                  ? in_halves(**stored, head_dim, file_.where)
                : wanted.role == "A_log" ? as_logarithms(**stored, file_.where)
                                         : expected<stored_tensor>(**stored);
    if (!made) return made.failure();
    made->name = wanted.name;
    made->shape = wanted.shape;
    out_.push_back(std::move(*made));
    return {};
  }

  const hf_config& config_;
  const gguf_file& file_;
  std::set<std::string, std::less<>> taken_;
  std::vector<stored_tensor> out_;
};

}  // namespace

expected<tensor_index> gguf_tensors_as(const hf_config& config, const gguf_file& file) { return finder(config, file).find(); }

}  // namespace isthmus
