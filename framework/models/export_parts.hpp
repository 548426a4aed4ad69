#pragma once

#include "framework/models/export.hpp"
#include "framework/models/layer_pairs.hpp"

#include <nlohmann/json_fwd.hpp>

#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Parts of export_hugging_face.
namespace isthmus {

/// A class that can be written: of Transformers, or of the authors' own code.
struct architecture {
  std::string_view name, type;                     // "LlamaForCausalLM", "llama"
  std::vector<std::string_view> mixers, channels;  // kinds of ours that it has in any layer; "none" among them
  bool parts_alone = false;                        // each of its layers mixes the sequence or the channels
  bool ties_head = true;                           // where the config says so
};

/// Whether attention has another scale than 1 / sqrt(head_dim).
bool has_own_scale(const layer_shape& attention);

/// "none" when there is none.
std::string kind_of(const std::optional<layer_shape>& shape);

/// The first one that has every layer by its kinds and by the options that tell architectures of the same kinds apart, else the first by
/// kinds alone. Errors: unsupported, naming the layer that none has.
expected<architecture> architecture_of(const std::vector<layer_pair>& layers);
/// The same of an encoder's layers.
expected<architecture> encoder_architecture_of(const std::vector<layer_pair>& layers);

/// A config.json, and the model as its layers are listed there. The array of weights is the same, but for a head that the architecture
/// does not tie: it follows behind, a copy of the embedding.
struct written_config {
  std::string text;
  model_config model;
};
/// Errors: as config_json_of.
expected<written_config> write_config(const model_config& model, const export_facts& facts, dtype type);

/// The keys of a config.json; layers: as the architecture lists them. Errors: unsupported, what it cannot say.
expected<nlohmann::json> config_keys_of(const architecture& what, const model_config& model, std::span<const layer_pair> layers,
                                        const export_facts& facts, dtype type);

/// Parts of it: what all architectures say, and those that share no key with the classes of Transformers.
nlohmann::json common_keys(const architecture& what, const model_config& model, const export_facts& facts, dtype type);
void add_striped_hyena_keys(const model_config& model, std::span<const layer_pair> layers, const export_facts& facts, nlohmann::json& out);
void add_m2_bert_keys(const model_config& model, std::span<const layer_pair> layers, nlohmann::json& out);

/// The first layer of a kind; null when there is none.
const layer_shape* first_of_kind(std::span<const layer_pair> layers, std::string_view kind);
/// A float as people write it, "1e-05", that is the same float again.
nlohmann::json shortest(float value);
/// What config.json calls a channel mixer's activation.
std::string activation_word(const layer_shape& channel);

}  // namespace isthmus
