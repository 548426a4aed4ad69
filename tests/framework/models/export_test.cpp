#include "framework/formats/hf_config.hpp"
#include "framework/formats/hugging_face.hpp"
#include "framework/layers/catalog.hpp"
#include "framework/models/export.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import.hpp"
#include "tests/framework/formats/scratch_folder.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace isthmus;
using namespace isthmus::testing;
using nlohmann::json;

BOOST_AUTO_TEST_SUITE(export_models)

namespace {

/// place: of a file that holds several.
json read_golden(const std::string& name, std::size_t place = 0) {
  json golden = json::parse(file_text("tests/golden/hf/" + name + ".json"));
  return golden.is_array() ? golden.at(place) : golden;
}

/// A checkpoint with the config of that golden file and numbers that are all different.
void write_theirs(const json& golden, scratch_folder& folder) {
  folder.write("config.json", golden.at("config").dump());
  std::vector<std::vector<float>> numbers;
  std::vector<tensor_view> views;
  for (const json& t : golden.at("tensors")) {
    const auto shape = t.at("shape").get<std::vector<std::int64_t>>();
    std::int64_t count = 1;
    for (const auto extent : shape) count *= extent;
    const std::string name = t.at("name");
    auto& values = numbers.emplace_back();
    if (t.contains("numbers")) values = t.at("numbers").get<std::vector<float>>();
    for (std::int64_t i = std::ssize(values); i < count; ++i)
      values.push_back(name.ends_with("pos_emb.t") ? static_cast<float>(static_cast<double>(i) / static_cast<double>(count - 1))
                                                   : std::sin(static_cast<float>(i + 1000 * std::ssize(numbers))));
    views.push_back({name, dtype::f32, shape, std::as_bytes(std::span(values))});
  }
  BOOST_TEST_REQUIRE(write_hugging_face(folder.disk(), ".", views).has_value());
}

imported_model imported_from(const std::string& folder) {
  auto model = import_hugging_face(folder);
  BOOST_TEST_REQUIRE(model.has_value(), (model ? "" : model.error().message));
  return std::move(*model);
}

void export_to(scratch_folder& folder, const imported_model& model, dtype type = dtype::f32, const shard_options& options = {}) {
  const auto ok = export_hugging_face(folder.disk(), "out", model.config, model.weights->span(), {256, 1, 3, {2, 5}}, type, options);
  BOOST_TEST_REQUIRE(ok.has_value(), (ok ? "" : ok.error().message));
}

imported_model fresh(const model_config& config) {
  imported_model out{config, std::make_shared<float_array>(static_cast<std::size_t>(hybrid_layout(config).size))};
  initial_weights(config, 7, out.weights->span());
  return out;
}

model_config hybrid() {
  model_config config;
  config.vocabulary = 48;
  config.d_model = 32;
  config.layers = {"mamba2", "attention", "mamba2"};
  config.options = {{"n_heads", 2},    {"n_kv_heads", 1},    {"head_dim", 16}, {"ffn_hidden", 48},
                    {"ssm_inner", 64}, {"ssm_head_dim", 16}, {"ssm_state", 8}};
  return config;
}

std::string refusal(const model_config& config) {
  const auto text = config_json_of(config, {}, dtype::f32);
  BOOST_TEST_REQUIRE(!text.has_value());
  BOOST_TEST((text.error().code == errc::unsupported), text.error().message);
  return text.error().message;
}

void says(const model_config& config, const char* words) {
  const auto message = refusal(config);
  BOOST_TEST(message.find(words) != message.npos, message);
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_was_imported_is_written_bit_for_bit) {
  for (const char* name : {"llama", "mistral", "mamba", "mamba2", "mamba2_groups", "bamba", "mixtral", "jamba", "nemotron_h",
                           "nemotron_h_moe", "stripedhyena", "m2_bert"}) {
    BOOST_TEST_CONTEXT(name) {
      const json golden = read_golden(name);
      scratch_folder folder;
      write_theirs(golden, folder);
      export_to(folder, imported_from(folder.path()));
      const auto before = open_hugging_face(folder.path()), after = open_hugging_face(folder.path() + "/out");
      BOOST_TEST_REQUIRE(after.has_value());
      std::size_t compared = 0;
      for (const auto& t : before->tensors.all()) {
        if (t.name.ends_with("rotary_emb.inv_freq")) continue;  // it follows from the config
        ++compared;
        const auto* written = after->tensors.find(t.name);
        BOOST_TEST_REQUIRE(written != nullptr, t.name);
        BOOST_TEST((written->shape == t.shape), t.name);
        BOOST_TEST((*written->read() == *t.read()), t.name);
      }
      BOOST_TEST(after->tensors.size() == compared);
      const json config = json::parse(file_text(folder.path() + "/out/config.json"));
      BOOST_TEST(config.at("architectures") == golden.at("config").at("architectures"));
      BOOST_TEST(config.at("bos_token_id") == 1);
      BOOST_TEST((config.at("eos_token_id") == json{2, 5}));
      BOOST_TEST(config.at("pad_token_id") == 3);
    }
  }
}

/// Granite's multipliers are folded into the weights, a filter that channels of StripedHyena share is one for each of them, M2-BERT's `hyena_w_mod`
/// lies in its frequencies: what is written is another model of the same architecture.
BOOST_AUTO_TEST_CASE(what_was_folded_is_written_as_it_was_imported) {
  for (const auto& [name, place] :
       {std::pair{"granite_dense", 0U}, {"granitemoehybrid", 0U}, {"stripedhyena_plain", 0U}, {"m2_bert", 2U}}) {
    BOOST_TEST_CONTEXT(name) {
      const json golden = read_golden(name, place);
      scratch_folder folder;
      write_theirs(golden, folder);
      const auto model = imported_from(folder.path());
      export_to(folder, model);
      const auto back = imported_from(folder.path() + "/out");
      BOOST_TEST(same_bits(back.weights->span(), model.weights->span()));
      BOOST_TEST(json::parse(file_text(folder.path() + "/out/config.json")).at("architectures") == golden.at("config").at("architectures"));
    }
  }
}

BOOST_AUTO_TEST_CASE(our_models_come_back_as_they_were) {
  model_config llama = hybrid(), mamba2 = hybrid(), mamba1 = hybrid(), small = hybrid();
  llama.layers = {"attention", "attention/swiglu"};
  llama.tied_head = false;
  llama.options["rope_theta"] = 500000;
  llama.options["rope_factor"] = 8;
  mamba2.layers = {"mamba2/none", "mamba2/none"};
  mamba1.layers = {"mamba1/none"};
  small.layers = {"mamba2/swiglu"};
  const auto with = [](std::vector<std::string> layers, const layer_options& options) {
    model_config config = hybrid();
    config.layers = std::move(layers);
    for (const auto& [key, value] : options) config.options[key] = value;
    return config;
  };
  const layer_options experts{{"moe_experts", 4}, {"moe_active", 2}, {"moe_hidden", 48}};
  const auto sparse = [&](std::vector<std::string> layers, const layer_options& options) {
    model_config config = with(std::move(layers), options);
    config.options.insert(experts.begin(), experts.end());
    return config;
  };
  const auto place = [](const char* key, std::string_view word) {
    const auto words = builtin_layers().find_option(key)->words;
    return static_cast<double>(std::ranges::find(words, word) - words.begin());
  };
  const double softmax_all = place("moe_router", "softmax_all"), sigmoid = place("moe_router", "sigmoid");
  const auto mixtral = sparse({"attention/moe", "attention/moe"}, {{"attention_window", 9}, {"moe_z_loss", 0.1}});
  const auto granite = sparse({"mamba2/moe", "attention/moe"}, {{"moe_shared_hidden", 32}, {"rotary", 0}, {"attention_scale", 0.2}});
  const auto nope = with({"mamba2", "attention"}, {{"rotary", 0}});
  const auto jamba = sparse({"mamba1", "attention/moe", "mamba1", "mamba1/moe", "attention"},
                            {{"rotary", 0}, {"scan_norms", 1}, {"moe_router", softmax_all}});
  const auto jamba_alone = sparse({"mamba1/moe", "mamba1"}, {{"scan_norms", 1}, {"moe_router", softmax_all}});
  auto nemotron = sparse({"mamba2/mlp", "attention/none", "none/moe"}, {{"rotary", 0},
                                                                        {"ffn_activation", place("ffn_activation", "relu2")},
                                                                        {"ffn_gated", 0},
                                                                        {"moe_activation", place("moe_activation", "relu2")},
                                                                        {"moe_gated", 0},
                                                                        {"moe_router", sigmoid},
                                                                        {"moe_shared_hidden", 32},
                                                                        {"moe_scale", 2.5},
                                                                        {"ssm_inner", 48}});
  nemotron.tied_head = false;
  const auto gelu = with({"attention/mlp"}, {{"ffn_activation", place("ffn_activation", "gelu")}, {"ffn_gated", 1}, {"ffn_bias", 1}});
  const layer_options tanh{
      {"ffn_activation", place("ffn_activation", "gelu_tanh")}, {"moe_activation", place("moe_activation", "gelu_tanh")}, {"ffn_gated", 1}};
  const auto and_tanh = [&](layer_options options) {
    options.insert(tanh.begin(), tanh.end());
    return options;
  };
  const layer_options biased{{"ffn_activation", place("ffn_activation", "silu")}, {"ffn_gated", 1}, {"ffn_bias", 1}};
  auto nemotron_tanh = nemotron;
  for (const char* key : {"ffn_activation", "moe_activation"}) nemotron_tanh.options[key] = tanh.at(key);
  auto wide = with({"attention", "attention"}, {{"rotary", 0}});
  wide.d_model = 96;
  for (const auto& [config, name] : {std::pair{llama, "LlamaForCausalLM"},
                                     {with({"attention/mlp"}, tanh), "LlamaForCausalLM"},
                                     {with({"attention/mlp"}, and_tanh({{"attention_window", 9}})), "MistralForCausalLM"},
                                     {with({"attention/moe"}, and_tanh(experts)), "MixtralForCausalLM"},
                                     {with({"mamba2/mlp", "attention/mlp"}, biased), "BambaForCausalLM"},
                                     {nemotron_tanh, "NemotronHForCausalLM"},
                                     {wide, "GraniteMoeHybridForCausalLM"},
                                     {mamba2, "Mamba2ForCausalLM"},
                                     {mamba1, "MambaForCausalLM"},
                                     {small, "BambaForCausalLM"},
                                     {mixtral, "MixtralForCausalLM"},
                                     {granite, "GraniteMoeHybridForCausalLM"},
                                     {nope, "GraniteMoeHybridForCausalLM"},
                                     {jamba, "JambaForCausalLM"},
                                     {jamba_alone, "JambaForCausalLM"},
                                     {nemotron, "NemotronHForCausalLM"},
                                     {gelu, "LlamaForCausalLM"},
                                     {hybrid(), "BambaForCausalLM"}}) {
    BOOST_TEST_CONTEXT(name) {
      scratch_folder folder;
      const auto model = fresh(config);
      export_to(folder, model, dtype::f32, {.shard_bytes_max = 10'000});
      BOOST_TEST(folder.disk().exists("out/model.safetensors.index.json"));
      const auto back = imported_from(folder.path() + "/out");
      BOOST_TEST((hybrid_layout(back.config).size == hybrid_layout(config).size));
      BOOST_TEST(same_bits(back.weights->span(), model.weights->span()));
      BOOST_TEST(json::parse(file_text(folder.path() + "/out/config.json")).at("architectures").at(0) == name);
    }
  }
}

BOOST_AUTO_TEST_CASE(medusa_heads_stay_behind) {
  auto config = hybrid();
  config.medusa_heads = 2;
  scratch_folder folder;
  const auto model = fresh(config);
  export_to(folder, model);
  const auto back = imported_from(folder.path() + "/out");
  BOOST_TEST(back.config.medusa_heads == 0);
  BOOST_TEST(back.weights->size() < model.weights->size());
  BOOST_TEST(same_bits(back.weights->span(), model.weights->span().first(back.weights->size())));
}

BOOST_AUTO_TEST_CASE(a_tied_head_is_written_twice_where_none_is_tied) {
  model_config config = hybrid();
  config.layers = {"mamba2/none", "none/mlp"};
  config.options["ffn_gated"] = 0;
  scratch_folder folder;
  export_to(folder, fresh(config));
  BOOST_TEST(json::parse(file_text(folder.path() + "/out/config.json")).at("tie_word_embeddings") == false);
  const auto written = open_hugging_face(folder.path() + "/out");
  BOOST_TEST_REQUIRE(written.has_value());
  const auto *head = written->tensors.find("lm_head.weight"), *embedding = written->tensors.find("backbone.embeddings.weight");
  BOOST_TEST_REQUIRE((head != nullptr && embedding != nullptr));
  BOOST_TEST((*head->read() == *embedding->read()));
}

BOOST_AUTO_TEST_CASE(heads_that_are_rotated_whole_say_so_in_bamba) {
  const auto text = config_json_of(hybrid(), {}, dtype::bf16);
  BOOST_TEST_REQUIRE(text.has_value());
  const json config = json::parse(*text);
  BOOST_TEST(config.at("rope_parameters").at("partial_rotary_factor") == 1.0);
  BOOST_TEST(config.at("attn_layer_indices") == json::array({1}));
  BOOST_TEST(config.at("torch_dtype") == "bfloat16");
  BOOST_TEST(config.at("bos_token_id").is_null());
}

BOOST_AUTO_TEST_CASE(halves_are_rounded_to_the_nearest) {
  for (const auto& [type, bits] : {std::pair{dtype::bf16, 8}, {dtype::f16, 11}}) {
    scratch_folder folder;
    auto model = fresh(hybrid());
    export_to(folder, model, type);
    const auto back = imported_from(folder.path() + "/out");
    for (std::size_t i = 0; i < model.weights->size(); ++i) {
      const float ours = model.weights->span()[i], theirs = back.weights->span()[i];
      BOOST_REQUIRE(std::abs(ours - theirs) <= std::abs(ours) * std::ldexp(1.0F, -bits) + 1e-7F);
    }
  }
  scratch_folder folder;
  auto model = fresh(hybrid());
  model.weights->span()[3] = 70'000;
  const auto ok = export_hugging_face(folder.disk(), "out", model.config, model.weights->span(), {}, dtype::f16);
  BOOST_TEST_REQUIRE(!ok.has_value());
  BOOST_TEST(ok.error().message.find("model.embed_tokens.weight holds 70000, which is too large for f16") != std::string::npos);
}

/// Never a config that is nearly the model's.
BOOST_AUTO_TEST_CASE(what_transformers_cannot_say_is_refused_with_its_layer) {
  model_config c = hybrid();
  c.layers = {"attention", "gated_delta_net"};
  says(c, "layer 1 is gated_delta_net/swiglu, which no architecture has beside the layers before it");
  c.layers = {"attention", "mamba2/none"};
  says(c, "layer 1 is mamba2/none");
  c = hybrid();
  c.layers = {"attention"};
  c.channel = "mlp";
  c.options["ffn_gated"] = 0;
  says(c, "layer 0: ffn_gated is false, LlamaForCausalLM has true there");
  c.options = {{"ffn_gated", 1}, {"ffn_activation", 3}};  // silu
  says(c, "layer 0 has mlp, LlamaForCausalLM has swiglu there");
  c = hybrid();
  c.layers = {"attention/mlp"};
  c.options["ffn_gated"] = c.options["ffn_bias"] = 1;
  c.options["attention_window"] = 9;
  says(c, "layer 0: ffn_bias is true, MistralForCausalLM has false there");
  c = hybrid();
  c.layers = {"mamba2/mlp"};
  c.options["ffn_gated"] = 1;  // with GELU
  says(c, "BambaForCausalLM: hidden_act: only \"silu\" is supported beside Mamba layers");
  c = hybrid();
  c.layers = {"mamba2/none", "none/mlp"};
  c.options["ffn_bias"] = 1;
  says(c, "layer 1: ffn_bias is true, NemotronHForCausalLM has false there");
  c = hybrid();
  c.layers = {"attention/moe"};
  c.options["moe_router"] = 2;
  says(c, "layer 0: moe_router is \"sigmoid\", MixtralForCausalLM has \"softmax\" there");
  c.options["moe_router"] = 0;
  c.options["moe_scale"] = 2;
  says(c, "layer 0: moe_scale is 2");
  c = hybrid();
  c.options["rotary"] = 0;
  c.options["scan_norms"] = 1;
  c.layers = {"attention", "mamba1", "attention", "attention"};
  says(c, "JambaForCausalLM has attention in every n-th layer, this model in layers 0, 2, 3");
  c = hybrid();
  c.variants = {{"wide", "mamba2", {{"ssm_state", 16}}}};
  c.layers[2] = "wide";
  says(c, "layer 2: ssm_state is 16, BambaForCausalLM has 8 there");
  c = hybrid();
  c.options["ssm_inner"] = 48;
  says(c, "ssm_inner is 48, and BambaForCausalLM has only whole multiples of d_model = 32");
  c = hybrid();
  c.layers = {"attention"};
  c.options["rotary_dim"] = 8;
  says(c, "layer 0: rotary_dim is 8, LlamaForCausalLM has 16 there");
  c = hybrid();
  c.norm = norm_kind::layer_norm;
  says(c, "LayerNorms");
  c = hybrid();
  c.options["attention_window"] = 9;
  says(c, "layer 1: attention_window is 9, BambaForCausalLM has 0 there");
}

BOOST_AUTO_TEST_CASE(what_striped_hyena_and_m2_bert_cannot_say_is_refused) {
  const auto striped = [](const char* key, double value) {
    model_config c = hybrid();
    c.layers = {"attention", "hyena"};
    c.options["hyena_bias"] = 1;
    c.options[key] = value;
    return c;
  };
  BOOST_TEST(config_json_of(striped("hyena_taps", 9), {}, dtype::f32).has_value());  // of filters that it has not
  says(striped("hyena_bias", 0), "layer 1: hyena_bias is false, StripedHyenaModelForCausalLM has true there");
  says(striped("hyena_filter", 1), "layer 1: hyena_filter is \"decays\", StripedHyenaModelForCausalLM has \"modal\" there");
  says(striped("head_dim", 8), "layer 0: head_dim is 8, StripedHyenaModelForCausalLM has 16 there");
  says(striped("attention_window", 9), "layer 0: attention_window is 9");
  says(striped("rope_factor", 8), "layer 0: rope_context is");
  const auto m2_bert = [] {
    const auto theirs = read_hf_config(read_golden("m2_bert").at("config").dump(), "config.json");
    return *config_from(*theirs, "config.json");
  };
  model_config c = m2_bert();
  BOOST_TEST(config_json_of(c, {}, dtype::f32).has_value());
  c.encoder->mixer_residual = true;
  says(c, "an encoder that adds its mixers to what they read");
  c = m2_bert();
  c.encoder->token_types = 0;
  says(c, "an encoder without token types");
  c = m2_bert();
  c.norm_eps = 1e-5F;
  says(c, "an encoder whose norm_eps is 1e-05, where M2-BERT has 1e-12");
  c = m2_bert();
  c.options["monarch_learned"] = 0;
  says(c, "layer 0: monarch_learned is false, BertForMaskedLM has true there");
  c = m2_bert();
  c.layers[1] = "attention/monarch_mlp";
  says(c, "layer 1 is attention/monarch_mlp, and of encoders those of monarch/monarch_mlp alone are written");
}

/// Their powers reach over whole texts.
BOOST_AUTO_TEST_CASE(poles_and_residues_stay_fp32) {
  scratch_folder folder;
  write_theirs(read_golden("stripedhyena"), folder);
  const auto model = imported_from(folder.path());
  export_to(folder, model, dtype::bf16);
  const auto written = open_hugging_face(folder.path() + "/out");
  BOOST_TEST_REQUIRE(written.has_value());
  const auto type_of = [&](const char* name) { return written->tensors.find(name)->encoding->name; };
  BOOST_TEST(type_of("backbone.blocks.0.filter.poles") == "F32");
  BOOST_TEST(type_of("backbone.blocks.0.filter.residues") == "F32");
  BOOST_TEST(type_of("backbone.blocks.0.filter.D") == "BF16");
  const auto back = imported_from(folder.path() + "/out");
  const auto layout = hybrid_layout(model.config);
  for (const auto& slot : layout.slots) {
    if (!slot.name.ends_with("poles") && !slot.name.ends_with("residues")) continue;
    const auto begin = static_cast<std::size_t>(slot.offset), count = static_cast<std::size_t>(slot.count);
    BOOST_TEST(same_bits(back.weights->span().subspan(begin, count), model.weights->span().subspan(begin, count)), slot.name);
  }
}

BOOST_AUTO_TEST_SUITE_END()
