#include "framework/models/import_m2_bert.hpp"

#include "framework/layers/catalog.hpp"
#include "framework/models/hybrid_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

namespace isthmus {

namespace {

/// All sines of a filter are one module, whose frequencies both directions have; the decoder is the embedding.
std::string first_name_of(const std::string& name) {
  if (name == "cls.predictions.decoder.weight") return "bert.embeddings.word_embeddings.weight";
  const auto at = name.find(".implicit_filter");
  return at != name.npos && name.ends_with(".freq") ? name.substr(0, at) + ".implicit_filter.1.freq" : name;
}

}  // namespace

std::string m2_bert_tensor_name(const std::string& prefix, std::string_view role) {
  static const std::map<std::string, const char*, std::less<>> names{
      {"embedding", "model.embed_tokens.weight"},
      {"position_embedding", "model.embed_positions.weight"},
      {"token_type_embedding", "model.embed_types.weight"},
      {"embedding_norm", "model.embed_layernorm.weight"},
      {"embedding_norm.bias", "model.embed_layernorm.bias"},
      {"head_transform", "lm_head.dense.weight"},
      {"head_transform.bias", "lm_head.dense.bias"},
      {"head_norm", "lm_head.layernorm.weight"},
      {"head_norm.bias", "lm_head.layernorm.bias"},
      {"head", "lm_head.weight"},
      {"head.bias", "lm_head.bias"},
      {"channel_norm", "post_ff_layernorm.weight"},
      {"channel_norm.bias", "post_ff_layernorm.bias"},
      {"in_proj", "monarch.in_proj.weight"},
      {"in_proj.bias", "monarch.in_proj.bias"},
      {"short_filter", "monarch.short_filter.weight"},
      {"short_filter.bias", "monarch.short_filter.bias"},
      {"out_proj", "monarch.out_proj.weight"},
      {"out_proj.bias", "monarch.out_proj.bias"},
      {"gate_up_proj", "feed_forward.up_proj.weight"},
      {"up_proj", "feed_forward.up_proj.weight"},
      {"down_proj", "feed_forward.down_proj.weight"},
      {"down_proj.bias", "feed_forward.down_proj.bias"},
  };
  if (const auto at = names.find(role); at != names.end()) return prefix + at->second;
  const auto dot = role.find("filter.");
  if (dot == role.npos) return {};
  const std::string filter = prefix + "monarch." + std::string(role.substr(0, dot)) + "filter.";
  std::string part(role.substr(dot + 7));
  if (part == "times") return {};
  if (part == "positions") return filter + "features";
  if (part == "freq" || part == "D" || part == "decay") return filter + part;
  const bool bias = part.ends_with(".bias"), reverse = part.find(".reverse") != part.npos;  // "0", "0.bias", "0.reverse", "0.reverse.bias"
  return filter + (reverse ? "reverse." : "") + part.substr(0, 1) + (bias ? ".bias" : ".weight");
}

bool swaps_gates(std::string_view role) { return role.starts_with("in_proj") || role.starts_with("short_filter"); }

/// The rows' first third behind the second.
void swap_gates(std::span<float> rows) {
  const auto third = rows.begin() + static_cast<std::ptrdiff_t>(rows.size() / 3);
  std::swap_ranges(rows.begin(), third, third);
}

void fill_times(std::span<float> times) {
  const double last = static_cast<double>(std::max<std::size_t>(times.size(), 2) - 1);
  for (std::size_t t = 0; t < times.size(); ++t) times[t] = static_cast<float>(static_cast<double>(t) / last);
}

expected<model_config> m2_bert_config(const hf_config& theirs, const std::string& where) {
  const auto cannot = [&](const char* what) {
    return fail(errc::unsupported, fmt::format("{}: {} has {}, which no model of ours has", where, theirs.architecture, what));
  };
  if (theirs.architecture != "BertForMaskedLM") return cannot("a pooler in place of a head that predicts tokens");
  if (theirs.norm_eps != m2_bert_norm_eps) return cannot("layer_norm_eps other than 1e-12, which its head's norm has");
  model_config model;
  model.vocabulary = theirs.vocabulary;
  model.d_model = theirs.d_model;
  model.norm = norm_kind::layer_norm;
  model.norm_eps = static_cast<float>(theirs.norm_eps);
  model.tied_head = theirs.tied_head;
  model.encoder = encoder_config{.positions = theirs.positions, .token_types = theirs.token_types, .mixer_residual = false};
  model.layers.assign(theirs.layers.size(), "monarch/monarch_mlp");
  const auto& m = std::get<hf_monarch>(theirs.layers.front().mixer);
  const auto& mlp = std::get<hf_mlp>(theirs.layers.front().channel);
  const auto activations = builtin_layers().find_option("ffn_activation")->words;
  model.options = {{"monarch_context", static_cast<double>(m.context)},
                   {"monarch_features", static_cast<double>(m.emb)},
                   {"monarch_learned", 1},
                   {"monarch_order", static_cast<double>(m.order)},
                   {"monarch_short", static_cast<double>(m.short_filter)},
                   {"monarch_bidirectional", m.bidirectional ? 1 : 0},
                   {"monarch_residual", m.residual_long_conv ? 1 : 0},
                   {"monarch_bias", 1},
                   {"ffn_hidden", static_cast<double>(mlp.inner)},
                   {"ffn_activation", static_cast<double>(std::ranges::find(activations, "gelu") - activations.begin())},
                   {"ffn_gated", mlp.gated ? 1 : 0},
                   {"monarch_blocks", static_cast<double>(mlp.blocks)},
                   {"monarch_shuffle", 0},
                   {"monarch_out_bias", 1}};
  if (auto ok = check(model); !ok) return fail(errc::unsupported, fmt::format("{}: {}", where, ok.error().message));
  return model;
}

expected<void> check_times(const stored_tensor& stored, const std::string& where) {
  std::vector<float> times(static_cast<std::size_t>(stored.count())), even(times.size());
  if (auto ok = stored.read_floats(times); !ok) return ok;
  fill_times(even);
  for (std::size_t t = 0; t < times.size(); ++t)
    if (!(std::abs(times[t] - even[t]) <= 1e-5F))
      return fail(errc::unsupported, fmt::format("{}: \"{}\" has {} at place {}, where evenly spaced times from 0 to 1 have {}", where,
                                                 stored.name, times[t], t, even[t]));
  return {};
}

expected<void> check_copies(const hugging_face_weights& from, const std::set<std::string>& taken) {
  for (const auto& other : from.tensors.all()) {
    if (taken.contains(other.name) || other.name == "bert.embeddings.position_ids") continue;
    const std::string first = first_name_of(other.name);
    if (!taken.contains(first))
      return fail(errc::unsupported, fmt::format("{}: \"{}\" is no tensor of the model that config.json tells of", from.where, other.name));
    const auto one = from.tensors.find(first)->read(), two = other.read();
    if (!one) return one.failure();
    if (!two) return two.failure();
    if (*one != *two)
      return fail(errc::unsupported,
                  fmt::format("{}: \"{}\" differs from \"{}\", with which it is one tensor", from.where, other.name, first));
  }
  return {};
}

}  // namespace isthmus
