#include "framework/formats/hf_config.hpp"
#include "tests/framework/formats/hf_models.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <map>

using namespace isthmus;
using nlohmann::json;

using namespace isthmus::testing;

namespace {

std::map<std::string, std::vector<std::int64_t>> all_tensors(const hf_config& config) {
  std::map<std::string, std::vector<std::int64_t>> all;
  const auto add = [&](const std::vector<hf_tensor>& tensors) {
    for (const auto& t : tensors) BOOST_TEST(all.emplace(t.name, t.shape).second, t.name << " stands twice");
  };
  add(model_tensors(config));
  for (std::size_t i = 0; i < config.layers.size(); ++i) add(layer_tensors(config, i));
  return all;
}

template <class T>
const T& mixer(const hf_config& config, std::size_t layer) {
  BOOST_TEST_REQUIRE(std::holds_alternative<T>(config.layers.at(layer).mixer));
  return std::get<T>(config.layers.at(layer).mixer);
}
template <class T>
const T& channel(const hf_config& config, std::size_t layer) {
  BOOST_TEST_REQUIRE(std::holds_alternative<T>(config.layers.at(layer).channel));
  return std::get<T>(config.layers.at(layer).channel);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(hf_config_test)

// What Transformers' own classes write is what we ask for: every name and shape, none more and none less.
BOOST_AUTO_TEST_CASE(tensors_of_each_architecture_are_those_of_its_class) {
  BOOST_TEST(golden().size() >= 13U);
  for (const auto& [name, model] : golden().items()) BOOST_TEST_CONTEXT(name) {
      const auto tensors = all_tensors(read(model.at("config")));
      const auto wanted = model.at("tensors").get<std::map<std::string, std::vector<std::int64_t>>>();
      for (const auto& [tensor, shape] : wanted) {
        BOOST_TEST_REQUIRE(tensors.contains(tensor), tensor << " is not asked for");
        BOOST_TEST(tensors.at(tensor) == shape, tensor << boost::test_tools::per_element());
      }
      for (const auto& [tensor, shape] : tensors) BOOST_TEST(wanted.contains(tensor), tensor << " is not in the checkpoint");
    }
}

BOOST_AUTO_TEST_CASE(llama) {
  const hf_config c = read("llama");
  BOOST_TEST((c.family == hf_family::llama && c.architecture == "LlamaForCausalLM" && family_name(c.family) == "llama"));
  BOOST_TEST((c.vocabulary == 32 && c.d_model == 16 && c.context == 64 && c.layers.size() == 2 && !c.tied_head));
  BOOST_TEST((c.norm_eps == 1e-6 && c.dtype == "float32" && c.begin_tokens == std::vector<std::int64_t>{1}));
  const auto& a = mixer<hf_attention>(c, 1);
  BOOST_TEST((a.heads == 4 && a.kv_heads == 2 && a.head_dim == 4 && a.rotary_dim == 4 && a.window == 0 && a.scale == 0.5 && !a.qkv_bias));
  BOOST_TEST((c.rope->scaling == hf_rope::scaling_kind::llama3 && c.rope->theta == 500000 && c.rope->factor == 8));
  BOOST_TEST((c.rope->low_freq_factor == 1 && c.rope->high_freq_factor == 4 && c.rope->original_context == 32));
  const auto& m = channel<hf_mlp>(c, 0);
  BOOST_TEST((m.inner == 24 && m.gated && !m.bias && m.activation == hf_activation::silu));
  const hf_config biased = read("llama with biases");
  BOOST_TEST((biased.tied_head && mixer<hf_attention>(biased, 0).out_bias && channel<hf_mlp>(biased, 0).bias));
}

BOOST_AUTO_TEST_CASE(old_spellings_mean_the_same) {
  const hf_config c = read("llama");
  BOOST_TEST((c == changed("llama", [](json& o) {
                o["rope_scaling"] = o["rope_parameters"];
                o["rope_theta"] = o["rope_scaling"]["rope_theta"];
                o["rope_scaling"].erase("rope_theta");
                o.erase("rope_parameters");
                o["torch_dtype"] = o["dtype"];
                o.erase("dtype");
              })));
  BOOST_TEST((c == changed("llama", [](json& o) { o["head_dim"] = nullptr; })));
  const auto linear = changed("llama", [](json& o) {
    o.erase("rope_parameters");
    o["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  });
  BOOST_TEST((linear.rope->scaling == hf_rope::scaling_kind::linear && linear.rope->factor == 2 && linear.rope->theta == 10000));
  BOOST_TEST((read("granite") == changed("granite", [](json& o) { o["layer_types"] = {"mamba", "attention"}; })));
  BOOST_TEST((read("nemotron_h") == changed("nemotron_h", [](json& o) {
                o.erase("layers_block_type");
                o["hybrid_override_pattern"] = "M*-E";
                o["num_hidden_layers"] = 4;
                o["attention_head_dim"] = o["head_dim"];
                o.erase("head_dim");
              })));
  BOOST_TEST((read("bamba") == changed("bamba", [](json& o) {
                o["mamba_d_head"] = "auto";
                o["rope_theta"] = 10000.0;
                o["rope_scaling"] = nullptr;
                o.erase("rope_parameters");
                o["attn_rotary_emb"] = 2;
              })));
  // Infinity as older versions wrote it, which is no JSON.
  std::string text = golden().at("mamba2").at("config").dump();
  const std::string now = R"({"__float__":"Infinity"})";
  BOOST_TEST_REQUIRE(text.find(now) != std::string::npos);
  text.replace(text.find(now), now.size(), "Infinity");
  BOOST_TEST((*read_hf_config(text, "config.json") == read("mamba2")));
}

BOOST_AUTO_TEST_CASE(mistral_and_mixtral) {
  const hf_config mistral = read("mistral");
  const auto& a = mixer<hf_attention>(mistral, 0);
  BOOST_TEST((a.window == 8 && a.head_dim == 8 && a.rotary_dim == 8));
  BOOST_TEST(mixer<hf_attention>(changed("mistral", [](json& o) { o["sliding_window"] = nullptr; }), 0).window == 0);
  BOOST_TEST(mixer<hf_attention>(changed("mistral", [](json& o) { o.erase("sliding_window"); }), 0).window == 4096);
  const hf_config mixtral = read("mixtral");
  const auto& m = channel<hf_moe>(mixtral, 0);
  BOOST_TEST((m.experts == 3 && m.active == 2 && m.inner == 24 && m.shared_inner == 0 && m.renormalise && m.gated && !m.stacked));
  BOOST_TEST(mixtral.rope->theta == 1e6);
}

BOOST_AUTO_TEST_CASE(mamba_and_mamba2) {
  const hf_config one = read("mamba with biases");
  const auto& m = mixer<hf_mamba1>(one, 0);
  BOOST_TEST((m.inner == 48 && m.state == 4 && m.conv == 3 && m.dt_rank == 5 && m.bias && !m.conv_bias && !m.inner_norms));
  BOOST_TEST((!one.tied_head && read("mamba").tied_head && !one.rope && one.layers[0].channel.index() == 0));
  BOOST_TEST(mixer<hf_mamba1>(changed("mamba", [](json& o) { o["time_step_rank"] = "auto"; }), 0).dt_rank == 1);
  const hf_config two = read("mamba2");
  const auto& n = mixer<hf_mamba2>(two, 0);
  BOOST_TEST((n.heads == 4 && n.head_dim == 8 && n.groups == 2 && n.state == 4 && n.conv == 4 && n.chunk == 8 && n.conv_bias && !n.bias));
  BOOST_TEST((n.dt_min == 0 && std::isinf(n.dt_max)));
  const hf_config limited = read("mamba2 with biases");
  BOOST_TEST((mixer<hf_mamba2>(limited, 0).dt_min == 0.01 && mixer<hf_mamba2>(limited, 0).dt_max == 0.5));
}

BOOST_AUTO_TEST_CASE(hybrids) {
  const hf_config bamba = read("bamba");
  BOOST_TEST((mixer<hf_mamba2>(bamba, 0).head_dim == 8 && mixer<hf_attention>(bamba, 1).rotary_dim == 2));
  const hf_config granite = read("granite");
  BOOST_TEST((granite.embedding_multiplier == 12 && granite.residual_multiplier == 0.22 && granite.logits_divisor == 3));
  BOOST_TEST((mixer<hf_attention>(granite, 1).scale == 0.0625 && mixer<hf_attention>(granite, 1).rotary_dim == 0 && !granite.rope));
  const auto& g = channel<hf_moe>(granite, 0);
  BOOST_TEST((g.experts == 3 && g.active == 2 && g.inner == 24 && g.shared_inner == 20 && g.stacked));
  const hf_config dense = read("granite dense");
  BOOST_TEST((channel<hf_mlp>(dense, 1).inner == 20 && channel<hf_mlp>(dense, 1).fused));
  BOOST_TEST((dense.rope.has_value() && mixer<hf_attention>(dense, 0).rotary_dim == 4));
  const hf_config jamba = read("jamba");
  BOOST_TEST((mixer<hf_mamba1>(jamba, 0).inner_norms && mixer<hf_attention>(jamba, 1).rotary_dim == 0 && !jamba.rope));
  BOOST_TEST((channel<hf_mlp>(jamba, 0).inner == 24 && channel<hf_moe>(jamba, 1).experts == 3 && !channel<hf_moe>(jamba, 1).renormalise));
  const hf_config nemotron = read("nemotron_h");
  BOOST_TEST((nemotron.layers.size() == 4 && nemotron.layers[0].channel.index() == 0 && nemotron.layers[3].mixer.index() == 0));
  BOOST_TEST((mixer<hf_mamba2>(nemotron, 0).groups == 2 && mixer<hf_mamba2>(nemotron, 0).dt_min == 0.001));
  BOOST_TEST((channel<hf_mlp>(nemotron, 2).activation == hf_activation::relu2 && !channel<hf_mlp>(nemotron, 2).gated));
  const auto& n = channel<hf_moe>(nemotron, 3);
  BOOST_TEST((n.router == hf_moe::router_kind::sigmoid && n.inner == 12 && n.shared_inner == 20 && !n.gated && n.renormalise));
}

BOOST_AUTO_TEST_CASE(striped_hyena) {
  const json object{{"architectures", {"StripedHyenaModelForCausalLM"}},
                    {"model_type", "stripedhyena"},
                    {"vocab_size", 32},
                    {"hidden_size", 16},
                    {"num_filters", 16},
                    {"inner_mlp_size", 24},
                    {"attn_layer_idxs", {1}},
                    {"hyena_layer_idxs", {0, 2}},
                    {"num_layers", 2},
                    {"num_attention_heads", 4},
                    {"proj_groups", 2},
                    {"hyena_filter_groups", 4},
                    {"state_size", 2},
                    {"eps", 1e-5},
                    {"max_seqlen", 128},
                    {"rotary_emb_base", 500000},
                    {"tie_embeddings", false},
                    {"torch_dtype", "bfloat16"},
                    {"use_cache", true}};
  const hf_config c = read(object);
  const auto& h = mixer<hf_hyena>(c, 0);
  BOOST_TEST((h.filters == 4 && h.state == 2 && h.short_filter == 3 && h.short_bias && h.column_split && h.heads == 4));
  const auto& a = mixer<hf_attention>(c, 1);
  BOOST_TEST((a.heads == 4 && a.kv_heads == 2 && a.head_dim == 4 && a.fused && !a.qkv_bias && c.rope->theta == 500000 && c.context == 128));
  const auto tensors = all_tensors(c);
  BOOST_TEST(tensors.size() == 3U + 2U * 5U + 9U + 2U);
  BOOST_TEST((tensors.at("backbone.blocks.0.filter.poles") == std::vector<std::int64_t>{4, 2, 1, 2}));
  BOOST_TEST((tensors.at("backbone.blocks.1.inner_mha_cls.Wqkv.weight") == std::vector<std::int64_t>{32, 16}));
  BOOST_TEST((tensors.at("backbone.blocks.0.mlp.l3.weight") == std::vector<std::int64_t>{16, 24}));
  json both = object;
  both["hyena_layer_idxs"] = {0, 1};
  refused_text(both.dump(), errc::malformed, "layer 1 must be in one of attn_layer_idxs and hyena_layer_idxs");
  json neither = object;
  neither["attn_layer_idxs"] = json::array();
  refused_text(neither.dump(), errc::malformed, "layer 1 must be in one of");
}

BOOST_AUTO_TEST_CASE(m2_bert) {
  const json object{{"architectures", {"BertForSequenceClassification"}},
                    {"model_type", "m2_bert"},
                    {"vocab_size", 32},
                    {"hidden_size", 16},
                    {"num_hidden_layers", 1},
                    {"intermediate_size", 24},
                    {"num_attention_heads", 4},
                    {"hidden_act", "gelu"},
                    {"monarch_mixer_sequence_mixing", true},
                    {"long_conv_l_max", 64},
                    {"hyena_emb_dim", 5},
                    {"hyena_filter_order", 8},
                    {"residual_long_conv", true},
                    {"pool_all", true},
                    {"is_decoder", false},
                    {"bidirectional", true},
                    {"use_glu_mlp", true},
                    {"use_monarch_mlp", true},
                    {"monarch_mlp_nblocks", 4},
                    {"use_positional_encodings", true},
                    {"max_position_embeddings", 64},
                    {"type_vocab_size", 2},
                    {"layer_norm_eps", 1e-12},
                    {"hyena_w", 10},
                    {"hyena_w_mod", 1}};
  const hf_config c = read(object);
  BOOST_TEST((c.norm == hf_config::norm_kind::layer && c.norm_eps == 1e-12 && c.positions == 64 && c.token_types == 2 && !c.final_norm &&
              c.mean_pooling));
  const auto& m = mixer<hf_monarch>(c, 0);
  BOOST_TEST((m.context == 64 && m.emb == 5 && m.order == 8 && m.bidirectional && m.residual_long_conv));
  BOOST_TEST((channel<hf_mlp>(c, 0).blocks == 4 && channel<hf_mlp>(c, 0).activation == hf_activation::gelu && channel<hf_mlp>(c, 0).gated));
  const auto tensors = all_tensors(c);
  BOOST_TEST((tensors.at("bert.encoder.layer.0.mlp.gated_layers.weight") == std::vector<std::int64_t>{4, 12, 4}));
  BOOST_TEST((tensors.at("bert.encoder.layer.0.mlp.wo.weight") == std::vector<std::int64_t>{4, 4, 6}));
  BOOST_TEST((tensors.at("bert.encoder.layer.0.attention.filter_fn2.implicit_filter_rev.6.weight") == std::vector<std::int64_t>{16, 8}));
  BOOST_TEST((tensors.contains("bert.pooler.dense.weight") && !tensors.contains("cls.predictions.decoder.bias")));
  json attention = object;
  attention["monarch_mixer_sequence_mixing"] = false;
  refused_text(attention.dump(), errc::unsupported, "monarch_mixer_sequence_mixing: must be true");
  json blocks = object;
  blocks["monarch_mlp_nblocks"] = 5;
  refused_text(blocks.dump(), errc::malformed, "which does not divide hidden_size");
}

// As such files stand in the world, with keys of several generations.
BOOST_AUTO_TEST_CASE(keys_of_released_models) {
  const auto mamba = read_hf_config(R"({"architectures": ["MambaForCausalLM"], "bos_token_id": 0, "conv_kernel": 4, "d_inner": 1536,
    "d_model": 768, "eos_token_id": 0, "expand": 2, "fused_add_norm": true, "hidden_act": "silu", "hidden_size": 768, "initializer_range": 0.1,
    "intermediate_size": 1536, "layer_norm_epsilon": 1e-05, "model_type": "mamba", "n_layer": 24, "num_hidden_layers": 24, "pad_token_id": 0,
    "pad_vocab_size_multiple": 8, "rescale_prenorm_residual": false, "residual_in_fp32": true, "rms_norm": true, "ssm_cfg": {}, "state_size": 16,
    "time_step_floor": 0.0001, "time_step_init_scheme": "random", "time_step_max": 0.1, "time_step_min": 0.001, "time_step_rank": 48,
    "time_step_scale": 1.0, "torch_dtype": "float32", "transformers_version": "4.39.0.dev0", "use_bias": false, "use_cache": true,
    "use_conv_bias": true, "vocab_size": 50280})",
                                    "config.json");
  BOOST_TEST_REQUIRE(mamba.has_value(), (mamba ? "" : mamba.error().message));
  BOOST_TEST((mamba->tied_head && mamba->layers.size() == 24 && mixer<hf_mamba1>(*mamba, 0).dt_rank == 48));
  const auto mamba2 =
      read_hf_config(R"({"architectures": ["Mamba2ForCausalLM"], "chunk_size": 256, "conv_kernel": 4, "expand": 2, "head_dim": 64,
    "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 8192, "layer_norm_epsilon": 1e-05, "model_type": "mamba2", "n_groups": 8,
    "norm_before_gate": true, "num_heads": 128, "num_hidden_layers": 64, "residual_in_fp32": true, "rms_norm": true, "state_size": 128,
    "tie_word_embeddings": false, "time_step_init_scheme": "random", "time_step_limit": [0.0, Infinity], "time_step_rank": 256,
    "time_step_scale": 1.0, "torch_dtype": "bfloat16", "use_bias": false, "use_conv_bias": true, "vocab_size": 32768})",
                     "config.json");
  BOOST_TEST_REQUIRE(mamba2.has_value(), (mamba2 ? "" : mamba2.error().message));
  BOOST_TEST((mixer<hf_mamba2>(*mamba2, 63).groups == 8 && std::isinf(mixer<hf_mamba2>(*mamba2, 0).dt_max)));
  const auto granite = changed("granite", [](json& o) {
    o.erase("rope_parameters");
    o["rope_theta"] = 10000;
    o["rope_scaling"] = nullptr;
    o["position_embedding_type"] = "nope";
    o["normalization_function"] = "rmsnorm";
    o["init_method"] = "mup";
  });
  BOOST_TEST((granite == read("granite")));
  const auto jamba = changed("jamba", [](json& o) {
    o["mamba_inner_layernorms"] = true;
    o["n_ctx"] = 262144;
    o["sliding_window"] = nullptr;
  });
  BOOST_TEST((jamba == read("jamba")));
  refused("mamba", "n_layer", 2, errc::out_of_range, "n_layer: is 2, expected a whole number from 1 to 1");
  refused("mamba", "ssm_cfg", {{"layer", "Mamba2"}}, errc::unsupported, "ssm_cfg: only an empty object is supported");
}

BOOST_AUTO_TEST_SUITE_END()
