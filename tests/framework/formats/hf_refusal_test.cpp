#include "framework/formats/hf_config.hpp"
#include "tests/framework/formats/hf_models.hpp"

#include <boost/test/unit_test.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <limits>

using namespace isthmus;
using namespace isthmus::testing;
using nlohmann::json;

BOOST_AUTO_TEST_SUITE(hf_refusal_test)

BOOST_AUTO_TEST_CASE(unknown_mathematics_is_refused_by_name) {
  refused("llama", "architectures", {"GPT2LMHeadModel"}, errc::unsupported,
          "architectures: \"GPT2LMHeadModel\" is not supported, known are LlamaForCausalLM, Mi");
  refused("llama", "architectures", json::array(), errc::malformed, "must name exactly one architecture");
  refused("llama", "architectures", {"LlamaForCausalLM", "LlamaModel"}, errc::malformed, "must name exactly one");
  refused("llama", "architectures", {7}, errc::malformed, "architectures: holds 7, expected strings");
  refused("llama", "model_type", "mistral", errc::unsupported, "model_type: \"mistral\" does not go with LlamaForCausalLM");
  refused("llama", "quantization_config", {{"bits", 4}}, errc::unsupported,
          "quantization_config: is {\"bits\":4}: a key that this reader does not know");
  refused("llama", "use_parallel_residual", true, errc::unsupported, "use_parallel_residual: is true: a key");
  refused("llama", "hidden_act", "tanh", errc::unsupported, "hidden_act: \"tanh\" is not supported, only silu");
  refused("llama", "dtype", "float8", errc::unsupported, "dtype: \"float8\" is not supported, only float32");
  refused("llama", "is_encoder_decoder", true, errc::unsupported, "is_encoder_decoder: true is not supported");
  refused(
      "llama", [](json& o) { o["rope_parameters"]["rope_type"] = "yarn"; }, errc::unsupported, "rope_type");
  refused(
      "llama", [](json& o) { o["rope_parameters"]["beta_fast"] = 32; }, errc::unsupported,
      "rope_parameters.beta_fast: is 32: a key that this reader");
  for (const char* family : {"bamba", "granite", "granite dense", "jamba"})
    refused(family, "hidden_act", "gelu", errc::unsupported, "hidden_act: only \"silu\" is supported beside Mamba layers");
  // Transformers' class rotates whole heads: with the key it gives the logits that it gives without.
  for (const char* family : {"llama", "mistral", "mixtral", "granite dense"}) {
    refused(
        family, [](json& o) { o["rope_parameters"]["partial_rotary_factor"] = 0.5; }, errc::unsupported,
        "rope_parameters.partial_rotary_factor: is 0.5, and ");
    refused(family, "partial_rotary_factor", 0.5, errc::unsupported, "ForCausalLM does not read it: it rotates heads whole");
  }
  refused("bamba", "partial_rotary_factor", 0.25, errc::unsupported,
          "partial_rotary_factor: is 0.25, and BambaForCausalLM has 0.5 but for what rope_parameters say");
  refused(
      "granite", [](json& o) { o["layer_types"][0] = "sliding_attention"; }, errc::unsupported,
      "\"sliding_attention\" is not supported, only mamba");
  refused("granite", "position_embedding_type", "alibi", errc::unsupported, "\"alibi\" is not supported, only rope, nope, null");
  refused("jamba", "sliding_window", 128, errc::unsupported, "sliding_window: only null is supported");
  refused("nemotron_h", "moe_latent_size", 8, errc::unsupported, "moe_latent_size: only null is supported");
  refused("nemotron_h", "num_nextn_predict_layers", 1, errc::out_of_range, "num_nextn_predict_layers: is 1");
  refused(
      "nemotron_h", [](json& o) { o.erase("layers_block_type"), o["hybrid_override_pattern"] = "M?"; }, errc::unsupported,
      "none of M, *, -, E");
}

BOOST_AUTO_TEST_CASE(values_out_of_range) {
  for (const json& value :
       {json(0), json(-1), json(1.5), json("16"), json(std::uint64_t{1} << 63), json(1e300), json(true), json(json::array())})
    refused("llama", "hidden_size", value, value.is_number() ? errc::out_of_range : errc::malformed, "hidden_size: is " + value.dump());
  refused(
      "llama", [](json& o) { o.erase("hidden_size"); }, errc::malformed,
      "hidden_size: is missing, expected a whole number from 1 to 1048576");
  refused("llama", "num_hidden_layers", 1 << 20, errc::out_of_range, "num_hidden_layers");
  refused("llama", "num_attention_heads", 3, errc::malformed, "num_key_value_heads: is 2, which does not divide num_attention_heads 3");
  refused(
      "llama", [](json& o) { o["num_attention_heads"] = 6, o["head_dim"] = nullptr; }, errc::malformed,
      "is 6, which does not divide hidden_size 16");
  refused("llama", "head_dim", 3, errc::malformed, "3 of its 3 numbers would be rotated, expected an even number");
  refused("llama", "rms_norm_eps", -1e-5, errc::out_of_range, "rms_norm_eps: is -1e-05, expected a number from 0 to 1");
  refused("llama", "tie_word_embeddings", 1, errc::malformed, "tie_word_embeddings: is 1, expected true or false");
  refused(
      "llama", [](json& o) { o["torch_dtype"] = "float16"; }, errc::malformed, "torch_dtype: is \"float16\", but dtype is \"float32\"");
  refused(
      "llama",
      [](json& o) {
        o["rope_scaling"] = {{"rope_type", "default"}};
      },
      errc::malformed, "are both there and differ");
  refused(
      "llama", [](json& o) { o["rope_parameters"]["low_freq_factor"] = 5; }, errc::malformed, "must be less than high_freq_factor");
  refused("mixtral", "num_experts_per_tok", 4, errc::out_of_range, "num_experts_per_tok: is 4, expected a whole number from 1 to 3");
  refused("mamba", "intermediate_size", 33, errc::malformed, "is 33, expand * hidden_size are 32");
  refused("mamba2", "num_heads", 5, errc::malformed, "num_heads * head_dim are 40, expand * hidden_size are 32");
  refused("mamba2", "n_groups", 3, errc::malformed, "n_groups: is 3, which does not divide num_heads 4");
  refused("mamba2", "time_step_limit", {0.5, 0.1}, errc::out_of_range, "expected 0 <= low < high");
  refused("mamba2", "time_step_limit", {0.5}, errc::malformed, "must be [low, high]");
  refused("bamba", "attn_layer_indices", {2}, errc::out_of_range, "attn_layer_indices: holds 2, expected whole numbers from 0 to 1");
  refused("bamba", "attn_layer_indices", std::vector<int>(5000, 1), errc::too_large, "attn_layer_indices: has 5000 entries, at most 4096");
  refused("granite", "layer_types", std::vector<std::string>(5000, "mamba"), errc::too_large, "layer_types: has 5000 entries");
  refused("bamba", "attn_layer_indices", 1, errc::malformed, "attn_layer_indices: is 1, expected an array");
  refused("bamba", "mamba_n_heads", 3, errc::malformed, "mamba_n_heads: is 3, which does not divide");
  refused("granite", "num_hidden_layers", 3, errc::malformed, "layer_types: has 2 layers, num_hidden_layers is 3");
  refused("jamba", "attn_layer_offset", 2, errc::out_of_range, "attn_layer_offset: is 2, expected a whole number from 0 to 1");
  refused("nemotron_h", "num_hidden_layers", 5, errc::malformed, "num_hidden_layers: is not the number of layers listed, 4");
}

BOOST_AUTO_TEST_CASE(text_that_is_no_config) {
  refused_text("", errc::malformed, "not valid JSON");
  refused_text("[]", errc::malformed, "must be an object");
  refused_text("{}", errc::malformed, "architectures: must name exactly one");
  refused_text(R"({"architectures":["LlamaForCausalLM"],"architectures":["LlamaForCausalLM"]})", errc::malformed, "stands twice");
  refused_text(std::string(100, '[') + std::string(100, ']'), errc::malformed, "nested deeper than 16");
  refused_text(R"({"a":NaN})", errc::malformed, "not valid JSON");
  refused_text(R"({"a":-Infinity})", errc::malformed, "not valid JSON");
  refused_text("{\"a\":\"\xff\"}", errc::malformed, "not valid JSON");
  refused_text(std::string(5 << 20, ' '), errc::too_large, "5242880 bytes, at most 4194304 allowed");
  refused_text(R"({"architectures":["LlamaForCausalLM"],"Infinity":"Infinity \" Infinity"})", errc::malformed, "vocab_size: is missing");
}

BOOST_AUTO_TEST_CASE(token_ids_that_are_missing_are_those_of_the_class) {
  const auto without = [](const char* name) {
    return changed(name, [](json& o) {
      for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) o.erase(key);
    });
  };
  using ids = std::vector<std::int64_t>;
  const hf_config llama = without("llama"), mamba = without("mamba"), mamba2 = without("mamba2"), jamba = without("jamba");
  BOOST_TEST((llama.begin_tokens == ids{1} && llama.end_tokens == ids{2} && !llama.pad_token));
  BOOST_TEST((mamba.begin_tokens == ids{0} && mamba.end_tokens == ids{0} && mamba.pad_token == 0));
  BOOST_TEST((mamba2.begin_tokens == ids{0} && mamba2.end_tokens == ids{2} && mamba2.pad_token == 1));
  BOOST_TEST((jamba.begin_tokens == ids{1} && jamba.end_tokens == ids{2} && jamba.pad_token == 0));
  const auto pad = [](const json& id) { return changed("mamba2", [&](json& o) { o["pad_token_id"] = id; }).pad_token; };
  BOOST_TEST((pad(31) == 31));
  for (const json& none : {json(), json(-1), json(32)}) BOOST_TEST(!pad(none).has_value());
}

BOOST_AUTO_TEST_CASE(token_ids_of_every_form) {
  const auto ids = [](const json& value) { return changed("llama", [&](json& o) { o["eos_token_id"] = value; }).end_tokens; };
  BOOST_TEST((ids(2) == std::vector<std::int64_t>{2}));
  BOOST_TEST((ids({2, 3}) == std::vector<std::int64_t>{2, 3}));
  BOOST_TEST(ids(nullptr).empty());
  BOOST_TEST(ids(json::array()).empty());
  for (const char* key : {"bos_token_id", "eos_token_id"})
    for (const std::int64_t id : {std::int64_t{-1}, std::int64_t{32}, std::int64_t{1} << 31U, std::numeric_limits<std::int64_t>::max()}) {
      const std::string message = fmt::format("{}: is {}, expected an id from 0 to 31, or null for none", key, id);
      refused("llama", key, id, errc::out_of_range, message);
      refused("llama", key, {2, id}, errc::out_of_range, message);
    }
  refused("llama", "eos_token_id", "</s>", errc::malformed, "eos_token_id: must be a token id");
}

BOOST_AUTO_TEST_SUITE_END()
