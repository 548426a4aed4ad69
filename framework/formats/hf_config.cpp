#include "framework/formats/hf_config.hpp"

#include "framework/core/json.hpp"
#include "framework/formats/generation_config.hpp"
#include "framework/formats/hf_families.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace isthmus {

namespace {

using json = nlohmann::json;

constexpr std::size_t file_bytes_max = 4 << 20;

struct known_architecture {
  const char* name;        // in "architectures"
  const char* model_type;  // "model_type", when a file has it
  hf_family family;
  void (*read)(hf_keys&, hf_config&);
};
constexpr std::array<known_architecture, 13> architectures{{
    {"LlamaForCausalLM", "llama", hf_family::llama, hf::read_llama},
    {"MistralForCausalLM", "mistral", hf_family::mistral, hf::read_mistral},
    {"MixtralForCausalLM", "mixtral", hf_family::mixtral, hf::read_mixtral},
    {"MambaForCausalLM", "mamba", hf_family::mamba, hf::read_mamba},
    {"Mamba2ForCausalLM", "mamba2", hf_family::mamba2, hf::read_mamba2},
    {"BambaForCausalLM", "bamba", hf_family::bamba, hf::read_bamba},
    {"GraniteMoeHybridForCausalLM", "granitemoehybrid", hf_family::granite_hybrid, hf::read_granite_hybrid},
    {"JambaForCausalLM", "jamba", hf_family::jamba, hf::read_jamba},
    {"NemotronHForCausalLM", "nemotron_h", hf_family::nemotron_h, hf::read_nemotron_h},
    {"StripedHyenaModelForCausalLM", "stripedhyena", hf_family::striped_hyena, hf::read_striped_hyena},
    {"BertForMaskedLM", "m2_bert", hf_family::m2_bert, hf::read_m2_bert},
    {"BertForSequenceClassification", "m2_bert", hf_family::m2_bert, hf::read_m2_bert},
    {"BertForTextEncoding", "m2_bert", hf_family::m2_bert, hf::read_m2_bert},
}};

/// Python writes Infinity, which is no JSON, where a limit is open. A string of the same length takes its place, so that bytes in
/// messages stay right.
std::string spell_out_infinity(std::string_view text) {
  constexpr std::string_view word = "Infinity", instead = "\"_inf__\"";
  std::string out(text);
  bool inside = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (inside && text[i] == '\\')
      ++i;
    else if (text[i] == '"')
      inside = !inside;
    else if (!inside && text.substr(i, word.size()) == word && (i == 0 || text[i - 1] != '-'))
      out.replace(i, word.size(), instead);
  }
  return out;
}

const known_architecture* find_architecture(const std::string& name) {
  const auto found = std::find_if(architectures.begin(), architectures.end(), [&](const auto& a) { return a.name == name; });
  return found == architectures.end() ? nullptr : &*found;
}

std::string known_names() {
  std::string names;
  for (const auto& a : architectures) names += (names.empty() ? "" : ", ") + std::string(a.name);
  return names;
}

}  // namespace

std::string_view family_name(hf_family family) {
  for (const auto& a : architectures)
    if (a.family == family) return a.model_type;
  return "unknown";
}

expected<hf_config> read_hf_config(std::string_view text, const std::string& where) {
  if (text.size() > file_bytes_max)
    return fail(errc::too_large, fmt::format("{}: {} bytes, at most {} allowed", where, text.size(), file_bytes_max));
  auto object = parse_json(spell_out_infinity(text), where, 16);
  if (!object) return object.failure();
  if (!object->is_object()) return fail(errc::malformed, where + ": must be an object");

  hf_keys keys(*object, where);
  const auto named = keys.texts({"architectures"});
  keys.must(named.size() == 1, errc::malformed, "architectures", "must name exactly one architecture");
  if (keys.failed()) return keys.finish().failure();
  const known_architecture* known = find_architecture(named[0]);
  if (known == nullptr)
    return fail(errc::unsupported,
                fmt::format("{}: architectures: \"{}\" is not supported, known are {}", where, named[0].substr(0, 80), known_names()));
  hf_config out;
  out.family = known->family;
  out.architecture = known->name;
  const std::string type = keys.text({"model_type"}, known->model_type);
  keys.must(type == known->model_type || (known->family == hf_family::m2_bert && type == "bert"), errc::unsupported, "model_type",
            fmt::format("\"{}\" does not go with {}, expected \"{}\"", type.substr(0, 80), known->name, known->model_type));
  known->read(keys, out);
  if (auto ok = keys.finish(); !ok) return ok.failure();
  return out;
}

namespace hf {

namespace {

/// Those of Transformers' class where a key is missing; null: none. A padding id of -1 or past the vocabulary stands for none in some files.
void read_tokens(hf_keys& keys, hf_config& out) {
  struct defaults {
    std::int64_t begin = 1, end = 2, pad = -1;
  };
  defaults of_class;
  switch (out.family) {
    case hf_family::mamba: of_class = {0, 0, 0}; break;
    case hf_family::mamba2: of_class = {0, 2, 1}; break;
    case hf_family::bamba:
    case hf_family::jamba:
    case hf_family::nemotron_h: of_class.pad = 0; break;
    case hf_family::striped_hyena:
    case hf_family::m2_bert: of_class = {-1, -1, -1}; break;
    default: break;
  }
  const auto inside = [&](std::int64_t id) { return id >= 0 && id < out.vocabulary; };
  const auto ids = [&](const char* key, std::int64_t otherwise) {
    const json* value = keys.value({key});
    if (value == nullptr && !keys.has_key(key) && inside(otherwise)) return std::vector<std::int64_t>{otherwise};
    auto found = read_token_ids(value == nullptr ? json() : *value, out.vocabulary);
    if (!found) keys.must(false, found.error().code, key, found.error().message);
    return found ? std::move(*found) : std::vector<std::int64_t>();
  };
  out.begin_tokens = ids("bos_token_id", of_class.begin);
  out.end_tokens = ids("eos_token_id", of_class.end);
  const json* pad = keys.value({"pad_token_id"});
  const std::int64_t padding = pad == nullptr ? (keys.has_key("pad_token_id") ? -1 : of_class.pad)
                               : pad->is_number_unsigned() && pad->get<std::uint64_t>() < static_cast<std::uint64_t>(out.vocabulary)
                                   ? pad->get<std::int64_t>()
                                   : -1;
  if (inside(padding)) out.pad_token = padding;
}

}  // namespace

void read_common(hf_keys& keys, hf_config& out, bool tied_by_default) {
  out.vocabulary = keys.whole({"vocab_size"}, 1, std::int64_t{1} << 24);
  out.d_model = keys.whole({"hidden_size"}, 1, extent_max);
  out.context = keys.whole({"max_position_embeddings"}, 1, context_max, 0);
  out.tied_head = keys.flag({"tie_word_embeddings"}, tied_by_default);
  out.dtype = keys.text({"dtype", "torch_dtype"}, "");
  keys.must(out.dtype.empty() || out.dtype == "float32" || out.dtype == "float16" || out.dtype == "bfloat16", errc::unsupported, "dtype",
            "\"" + out.dtype.substr(0, 80) + "\" is not supported, only float32, float16, bfloat16");
  read_tokens(keys, out);
  keys.ignore({"sep_token_id",
               "cls_token_id",
               "unk_token_id",
               "transformers_version",
               "_name_or_path",
               "auto_map",
               "use_cache",
               "initializer_range",
               "return_dict",
               "output_attentions",
               "output_hidden_states",
               "torchscript",
               "use_bfloat16",
               "id2label",
               "label2id",
               "num_labels",
               "problem_type",
               "finetuning_task",
               "tokenizer_class",
               "task_specific_params",
               "attn_implementation",
               "_attn_implementation",
               "_flash_attn_2_enabled",
               "attention_dropout",
               "hidden_dropout",
               "num_logits_to_keep",
               "gradient_checkpointing"});
  keys.only("is_decoder", false);
  keys.only("is_encoder_decoder", false);
  keys.only("add_cross_attention", false);
}

std::int64_t read_layer_count(hf_keys& keys) { return keys.whole({"num_hidden_layers"}, 1, layers_max); }

hf_attention read_attention(hf_keys& keys, const hf_config& out) {
  hf_attention a;
  a.heads = keys.whole({"num_attention_heads"}, 1, extent_max);
  a.kv_heads = keys.whole({"num_key_value_heads"}, 1, extent_max, a.heads);
  if (!keys.has("head_dim"))
    keys.must(out.d_model % a.heads == 0, errc::malformed, "num_attention_heads",
              fmt::format("is {}, which does not divide hidden_size {}", a.heads, out.d_model));
  a.head_dim = keys.whole({"head_dim"}, 1, part_max, std::max<std::int64_t>(1, out.d_model / a.heads));
  keys.must(a.heads % a.kv_heads == 0, errc::malformed, "num_key_value_heads",
            fmt::format("is {}, which does not divide num_attention_heads {}", a.kv_heads, a.heads));
  a.scale = 1 / std::sqrt(static_cast<double>(a.head_dim));
  return a;
}

namespace {

constexpr const char* rotated_whole = "does not read it: it rotates heads whole, only 1 or no such key is supported";

/// One object of old or new spelling into `rope`. Keys that go with the kind are asked for, all others are refused.
void read_scaling(hf_keys& keys, hf_rope& rope, std::int64_t context) {
  const std::string kind = keys.text({"rope_type", "type"}, "default");
  if (kind == "linear") {
    rope.scaling = hf_rope::scaling_kind::linear;
    rope.factor = keys.number({"factor"}, 1, 1e6, 1);
  } else if (kind == "llama3") {
    rope.scaling = hf_rope::scaling_kind::llama3;
    rope.factor = keys.number({"factor"}, 1, 1e6, 1);
    rope.low_freq_factor = keys.number({"low_freq_factor"}, 1e-6, 1e6, 1);
    rope.high_freq_factor = keys.number({"high_freq_factor"}, 1e-6, 1e6, 4);
    rope.original_context = keys.whole({"original_max_position_embeddings"}, 1, context_max, context);
    keys.must(rope.low_freq_factor < rope.high_freq_factor, errc::malformed, "low_freq_factor", "must be less than high_freq_factor");
    keys.must(rope.original_context > 0, errc::malformed, "original_max_position_embeddings", "is missing");
  } else {
    keys.must(kind == "default", errc::unsupported, "rope_type",
              fmt::format("\"{}\" is not supported, only default, linear, llama3", kind.substr(0, 80)));
  }
}

}  // namespace

void read_rope(hf_keys& keys, hf_config& out, hf_attention& attention, double default_theta, double default_fraction) {
  hf_rope rope;
  const bool in_part = default_fraction != 1;
  double fraction = keys.number({"partial_rotary_factor"}, 1e-6, 1, default_fraction);
  keys.must(fraction == default_fraction, errc::unsupported, "partial_rotary_factor",
            fmt::format("is {}, and {} {}", fraction, out.architecture,
                        in_part ? fmt::format("has {} but for what rope_parameters say", default_fraction) : rotated_whole));
  rope.theta = keys.number({"rope_theta"}, 1, 1e12, default_theta);
  const json* scaling = keys.value({"rope_scaling"});
  const json* parameters = keys.value({"rope_parameters"});
  for (const auto& [value, name] : {std::pair{scaling, "rope_scaling"}, {parameters, "rope_parameters"}}) {
    if (value == nullptr) continue;
    keys.must(value->is_object(), errc::malformed, name, "must be an object");
    keys.must(scaling == nullptr || parameters == nullptr || *scaling == *parameters, errc::malformed, name,
              "rope_scaling and rope_parameters are both there and differ");
    if (keys.failed()) return;
    keys.read_inner(*value, name, [&](hf_keys& inner) {
      rope.theta = inner.number({"rope_theta"}, 1, 1e12, rope.theta);
      fraction = inner.number({"partial_rotary_factor"}, 1e-6, 1, fraction);
      inner.must(in_part || fraction == 1, errc::unsupported, "partial_rotary_factor",
                 fmt::format("is {}, and {} {}", fraction, out.architecture, rotated_whole));
      read_scaling(inner, rope, out.context);
    });
  }
  attention.rotary_dim = static_cast<std::int64_t>(static_cast<double>(attention.head_dim) * fraction);
  keys.must(attention.rotary_dim >= 2 && attention.rotary_dim % 2 == 0, errc::malformed, "head_dim",
            fmt::format("{} of its {} numbers would be rotated, expected an even number", attention.rotary_dim, attention.head_dim));
  out.rope = rope;
}

hf_activation read_activation(hf_keys& keys, const char* key, const char* otherwise) {
  const std::string name = keys.text({key}, otherwise);
  if (name == "silu" || name == "swish") return hf_activation::silu;
  if (name == "gelu") return hf_activation::gelu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return hf_activation::gelu_tanh;
  keys.must(name == "relu2", errc::unsupported, key,
            fmt::format("\"{}\" is not supported, only silu (swish), gelu, gelu_pytorch_tanh (gelu_new), relu2", name.substr(0, 80)));
  return hf_activation::relu2;
}

}  // namespace hf

}  // namespace isthmus
