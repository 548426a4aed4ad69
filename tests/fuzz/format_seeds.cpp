#include "tests/framework/formats/gguf_builder.hpp"
#include "tests/fuzz/targets.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>

namespace isthmus::fuzz {

namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto all = std::as_bytes(std::span(text.data(), text.size()));
  return {all.begin(), all.end()};
}

constexpr const char* striped_hyena = R"({"architectures": ["StripedHyenaModelForCausalLM"], "model_type": "stripedhyena", "vocab_size": 32,
 "hidden_size": 16, "num_filters": 16, "inner_mlp_size": 24, "attn_layer_idxs": [1], "hyena_layer_idxs": [0], "num_layers": 2,
 "num_attention_heads": 4, "proj_groups": 2, "hyena_filter_groups": 4, "state_size": 2, "eps": 1e-05, "tie_embeddings": false})";
constexpr const char* m2_bert = R"({"architectures": ["BertForSequenceClassification"], "model_type": "m2_bert", "vocab_size": 32,
 "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 24, "monarch_mixer_sequence_mixing": true, "long_conv_l_max": 64,
 "hyena_emb_dim": 5, "hyena_filter_order": 8, "residual_long_conv": true, "use_monarch_mlp": true, "monarch_mlp_nblocks": 4,
 "use_positional_encodings": true, "max_position_embeddings": 64})";
constexpr const char* old_spelling = R"({"architectures": ["Mamba2ForCausalLM"], "torch_dtype": "float16", "vocab_size": 32,
 "hidden_size": 16, "num_hidden_layers": 1, "num_heads": 4, "head_dim": 8, "n_groups": 2, "time_step_limit": [0.0, Infinity],
 "eos_token_id": [2, 3], "rms_norm": true})";

}  // namespace

std::vector<seed> format_seeds() {
  std::vector<seed> out{{"ggufs", "small", testing::small_gguf()}, {"ggufs", "every_type", testing::every_type_gguf()}};
  std::ifstream golden("tests/golden/formats/hf_configs.json");
  const auto models = nlohmann::json::parse(golden);
  for (const auto& [name, model] : models.items()) {
    std::string file = name;
    std::replace(file.begin(), file.end(), ' ', '_');
    out.push_back({"hf_configs", file, bytes_of(model.at("config").dump(1))});
  }
  out.push_back({"hf_configs", "striped_hyena", bytes_of(striped_hyena)});
  out.push_back({"hf_configs", "m2_bert", bytes_of(m2_bert)});
  out.push_back({"hf_configs", "old_spelling", bytes_of(old_spelling)});
  out.push_back({"shard_indexes", "two", bytes_of(R"({"metadata": {"total_size": 12},
 "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})")});
  out.push_back({"safetensors", "halves",
                 bytes_of(std::string("\xae\0\0\0\0\0\0\0", 8) +
                          R"({"a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]},)"
                          R"("b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]},)"
                          R"("c":{"dtype":"F32","shape":[1],"data_offsets":[10,14]}}         )" +
                          "0123456789abcd")});
  return out;
}

}  // namespace isthmus::fuzz
