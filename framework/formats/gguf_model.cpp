#include "framework/formats/gguf_model.hpp"

#include "framework/formats/gguf_keys.hpp"
#include "framework/formats/gguf_tensors.hpp"
#include "framework/formats/hf_families.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

namespace isthmus {

namespace {

using namespace hf;

/// The front of every architecture.
void read_common(gguf_keys& keys, const gguf_file& file, hf_config& out) {
  out.d_model = keys.whole("embedding_length", 1, extent_max);
  out.context = keys.whole("context_length", 1, context_max, 0);
  out.norm_eps = keys.number("attention.layer_norm_rms_epsilon", 0, 1);
  out.tied_head = file.tensors.find("output.weight") == nullptr;
  // Each token has a row of the embedding; the key is not always there.
  const stored_tensor* embedding = file.tensors.find("token_embd.weight");
  const bool matrix = embedding != nullptr && embedding->shape.size() == 2 && embedding->shape[0] <= (std::int64_t{1} << 24);
  keys.must(matrix, errc::malformed, "vocab_size", "there is no tensor token_embd.weight of two dimensions to tell it from");
  const std::int64_t rows = matrix ? embedding->shape[0] : 1;
  out.vocabulary = keys.whole("vocab_size", 1, std::int64_t{1} << 24, rows);
  keys.must(out.vocabulary == rows, errc::malformed, "vocab_size",
            fmt::format("is {}, token_embd.weight has {} rows", out.vocabulary, rows));
  for (const auto& [key, ids] :
       {std::pair{"tokenizer.ggml.bos_token_id", &out.begin_tokens}, {"tokenizer.ggml.eos_token_id", &out.end_tokens}})
    if (const auto id = file.whole(key); id && *id < out.vocabulary) ids->push_back(*id);
}

hf_attention read_attention(gguf_keys& keys, const gguf_file& file, const hf_config& out) {
  hf_attention a;
  a.heads = keys.whole("attention.head_count", 1, extent_max);
  a.kv_heads = keys.whole("attention.head_count_kv", 1, extent_max, a.heads);
  keys.must(a.heads % a.kv_heads == 0, errc::malformed, "attention.head_count_kv",
            fmt::format("is {}, which does not divide head_count {}", a.kv_heads, a.heads));
  if (!keys.has("attention.key_length"))
    keys.must(out.d_model % a.heads == 0, errc::malformed, "attention.head_count",
              fmt::format("is {}, which does not divide embedding_length {}", a.heads, out.d_model));
  a.head_dim = keys.whole("attention.key_length", 1, part_max, std::max<std::int64_t>(1, out.d_model / a.heads));
  const std::int64_t values = keys.whole("attention.value_length", 1, part_max, a.head_dim);
  keys.must(values == a.head_dim, errc::unsupported, "attention.value_length",
            fmt::format("is {}, key_length is {}: only equal ones are supported", values, a.head_dim));
  a.rotary_dim = keys.whole("rope.dimension_count", 1, part_max, a.head_dim);
  keys.must(a.rotary_dim == a.head_dim && a.head_dim % 2 == 0, errc::unsupported, "rope.dimension_count",
            fmt::format("is {} of {}: only heads of even width that are rotated whole are supported", a.rotary_dim, a.head_dim));
  a.scale = 1 / std::sqrt(static_cast<double>(a.head_dim));
  a.qkv_bias = file.tensors.find("blk.0.attn_q.bias") != nullptr;
  a.out_bias = file.tensors.find("blk.0.attn_output.bias") != nullptr;
  return a;
}

/// What Llama 3's rule divides the frequency of a pair by.
double llama3_divisor(const hf_rope& rope, std::int64_t width, std::size_t pair) {
  const double turn = std::pow(rope.theta, -2.0 * static_cast<double>(pair) / static_cast<double>(width));
  const double turns = static_cast<double>(rope.original_context) * turn / (2 * std::numbers::pi);  // in the original context
  if (turns < rope.low_freq_factor) return rope.factor;
  if (turns > rope.high_freq_factor) return 1;
  const double share = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return 1 / ((1 - share) / rope.factor + share);
}

/// rope_freqs.weight holds the divisors alone. All models have low 1, high 4 and a context that is a power of two, so that these are tried.
expected<void> read_divisors(const gguf_file& file, std::int64_t width, hf_rope& rope) {
  const auto stored = file.tensors.expect("rope_freqs.weight", std::array{width / 2}, file.where);
  if (!stored) return stored.failure();
  std::vector<float> divisors(static_cast<std::size_t>(width / 2));
  if (auto ok = (*stored)->read_floats(divisors); !ok) return ok;
  rope.factor = static_cast<double>(*std::max_element(divisors.begin(), divisors.end()));
  if (std::all_of(divisors.begin(), divisors.end(), [](float d) { return d == 1; })) return {};
  rope.scaling = hf_rope::scaling_kind::llama3;
  for (rope.original_context = 1; rope.original_context <= (1 << 24); rope.original_context *= 2) {
    std::size_t agree = 0;
    while (agree < divisors.size() && std::abs(static_cast<double>(divisors[agree]) / llama3_divisor(rope, width, agree) - 1) < 1e-4)
      ++agree;
    if (agree == divisors.size() && rope.factor <= 1e6) return {};
  }
  return fail(errc::unsupported, fmt::format("{}: rope_freqs.weight holds no factors that Llama 3's rule gives", file.where));
}

expected<void> read_rope(gguf_keys& keys, const gguf_file& file, std::int64_t width, hf_config& out) {
  hf_rope rope;
  rope.theta = keys.number("rope.freq_base", 1, 1e12, 10000);
  const double old_factor = keys.number("rope.scale_linear", 1, 1e6, 1);
  const std::string kind = keys.text("rope.scaling.type", old_factor != 1 ? "linear" : "none");
  keys.must(kind == "none" || kind == "linear", errc::unsupported, "rope.scaling.type",
            fmt::format("\"{}\" is not supported, only none, linear", kind.substr(0, 80)));
  const double factor = keys.number("rope.scaling.factor", 0, 1e6, old_factor);
  keys.ignore({"rope.scaling.original_context_length", "rope.scaling.finetuned"});  // read for yarn alone
  if (kind == "linear" && factor != 0 && factor != 1) {
    keys.must(factor > 1, errc::out_of_range, "rope.scaling.factor", fmt::format("is {}, expected at least 1", factor));
    rope.scaling = hf_rope::scaling_kind::linear;
    rope.factor = factor;
  }
  if (keys.failed()) return {};
  if (file.tensors.find("rope_freqs.weight") != nullptr) {
    keys.must(rope.scaling == hf_rope::scaling_kind::none, errc::unsupported, "rope.scaling.type",
              "\"linear\" beside rope_freqs.weight is not supported");
    if (auto ok = read_divisors(file, width, rope); !ok) return ok;
  }
  out.rope = rope;
  return {};
}

/// Softmax over all experts, then the best ones, whose weights are made to add up to 1: Mixtral's rule.
hf_moe read_experts(gguf_keys& keys, std::int64_t experts, std::int64_t inner) {
  hf_moe moe;
  moe.experts = experts;
  moe.active = keys.whole("expert_used_count", 1, experts);
  moe.inner = inner;
  moe.stacked = true;
  return moe;
}

expected<void> read_llama(gguf_keys& keys, const gguf_file& file, hf_config& out) {
  const std::int64_t experts = keys.whole("expert_count", 0, experts_max, 0);
  out.family = experts > 0 ? hf_family::mixtral : hf_family::llama;
  out.architecture = experts > 0 ? "MixtralForCausalLM" : "LlamaForCausalLM";
  const hf_attention attention = read_attention(keys, file, out);
  if (auto ok = read_rope(keys, file, attention.rotary_dim, out); !ok) return ok;
  hf_layer layer{attention, std::monostate{}};
  const std::int64_t inner = keys.whole("feed_forward_length", 1, 16 * extent_max);
  if (experts > 0) {
    layer.channel = read_experts(keys, experts, inner);
  } else {
    keys.whole("expert_used_count", 0, 0, 0);
    layer.channel = hf_mlp{.inner = inner, .bias = file.tensors.find("blk.0.ffn_down.bias") != nullptr};
  }
  keys.only("use_parallel_residual", false);
  keys.only("attention.causal", true);
  keys.ignore({"tensor_data_layout"});  // how the rows of q and k came about, not how they lie
  out.layers.assign(static_cast<std::size_t>(keys.whole("block_count", 1, layers_max)), layer);
  return {};
}

expected<void> read_mamba(gguf_keys& keys, const gguf_file& file, hf_config& out) {
  out.family = hf_family::mamba;
  out.architecture = "MambaForCausalLM";
  hf_mamba1 mamba;
  mamba.inner = keys.whole("ssm.inner_size", 1, 64 * extent_max);
  mamba.state = keys.whole("ssm.state_size", 1, part_max);
  mamba.conv = keys.whole("ssm.conv_kernel", 1, 1024);
  mamba.dt_rank = keys.whole("ssm.time_step_rank", 1, extent_max);
  mamba.conv_bias = file.tensors.find("blk.0.ssm_conv1d.bias") != nullptr;
  keys.only("ssm.dt_b_c_rms", false);
  keys.whole("ssm.group_count", 0, 0, 0);
  for (const char* none : {"feed_forward_length", "attention.head_count", "attention.head_count_kv"}) keys.whole(none, 0, 0, 0);
  out.layers.assign(static_cast<std::size_t>(keys.whole("block_count", 1, layers_max)), {mamba, std::monostate{}});
  return {};
}

expected<hf_config> read_config(const gguf_file& file) {
  const auto architecture = file.text("general.architecture");
  if (!architecture) return architecture.failure();
  if (*architecture != "llama" && *architecture != "mamba")
    return fail(errc::unsupported, fmt::format("{}: general.architecture: \"{}\" is not supported, only llama, mamba", file.where,
                                               architecture->substr(0, 80)));
  if (file.find("general.type") != nullptr) {
    const auto type = file.text("general.type");
    if (!type) return type.failure();
    if (*type != "model")
      return fail(errc::unsupported, fmt::format("{}: general.type: \"{}\" is no model of its own", file.where, type->substr(0, 80)));
  }
  hf_config out;
  gguf_keys keys(file, *architecture);
  read_common(keys, file, out);
  const auto read = *architecture == "llama" ? read_llama(keys, file, out) : read_mamba(keys, file, out);
  if (!read) return read.failure();
  if (auto ok = keys.finish(); !ok) return ok.failure();
  return out;
}

}  // namespace

expected<gguf_model> read_gguf_model(const gguf_file& file) {
  auto config = read_config(file);
  if (!config) return config.failure();
  auto tensors = gguf_tensors_as(*config, file);
  if (!tensors) return tensors.failure();
  return gguf_model{std::move(*config), std::move(*tensors)};
}

}  // namespace isthmus
