#include "framework/formats/gguf_model.hpp"
#include "framework/formats/gguf_tokenizer.hpp"
#include "framework/models/generate.hpp"
#include "framework/models/import.hpp"
#include "kernels/select.hpp"
#include "tests/framework/formats/gguf_builder.hpp"
#include "tests/framework/formats/gguf_golden.hpp"
#include "tests/framework/formats/scratch_folder.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <string_view>

// Against llama.cpp: tests/golden/make_gguf_models.py wrote what to expect.
using namespace isthmus;
using namespace isthmus::testing;
using nlohmann::json;

BOOST_AUTO_TEST_SUITE(import_gguf_golden)

namespace {

gguf_file opened(const std::string& file) {
  auto out = open_gguf(memory_source(bytes_of(file), "golden.gguf"));
  BOOST_TEST_REQUIRE(out.has_value(), (out ? "" : out.error().message));
  return *out;
}

/// Pieces of the file replaced, byte for byte.
std::string changed(std::string file, std::string_view from, std::string_view to) {
  const std::size_t at = file.find(from);
  BOOST_TEST_REQUIRE(at != std::string::npos);
  BOOST_TEST_REQUIRE(from.size() == to.size());
  return file.replace(at, from.size(), to);
}

void check_case(const std::string& name) {
  const json golden = golden_gguf(name);
  const auto imported = import_gguf(opened(gguf_file_of(golden)));
  BOOST_TEST_REQUIRE(imported.has_value(), (imported ? "" : imported.error().message));
  for (const auto* backend : kernels::backends()) {
    BOOST_TEST_CONTEXT(name << " on " << backend->name) {
      kernels::serial_team team;
      hybrid_model model(imported->config, *backend, team, {}, imported->weights);
      model.weights_changed();
      const auto ids = golden.at("ids").get<std::vector<std::int32_t>>();
      for (std::size_t p = 0; p < golden.at("positions").size(); ++p) {
        auto state = model.start();
        const auto logits = model.advance(state, {ids.data(), golden.at("positions")[p].get<std::size_t>() + 1});
        double largest = 0, difference = 0;
        for (std::size_t v = 0; v < logits.size(); ++v) {
          const double e = golden.at("logits")[p].at(v);
          largest = std::max(largest, std::abs(e));
          difference = std::max(difference, std::abs(e - static_cast<double>(logits[v])));
        }
        BOOST_TEST(difference <= 1e-4 * largest, "logits at " << golden.at("positions")[p] << " are off by " << difference / largest);
      }
      const auto continued = generate(model, golden.at("prompt").get<std::vector<std::int32_t>>(), {.tokens_max = 64, .temperature = 0});
      BOOST_TEST(continued == golden.at("continuation").get<std::vector<std::int32_t>>(), boost::test_tools::per_element());
    }
  }
}

gguf_tokenizer tokenizer_of(const gguf_file& file) {
  auto vocabulary = read_gguf_vocabulary(file);
  BOOST_TEST_REQUIRE(vocabulary.has_value());
  auto made = gguf_tokenizer::make(std::move(*vocabulary), file.where);
  BOOST_TEST_REQUIRE(made.has_value(), (made ? "" : made.error().message));
  return std::move(*made);
}

void check_texts(const std::string& name) {
  const json golden = golden_gguf(name);
  const gguf_tokenizer tokens = tokenizer_of(opened(gguf_file_of(golden)));
  for (const json& t : golden.at("texts")) {
    const std::string text = t.at("text");
    BOOST_TEST_CONTEXT(name << ": " << t.at("text")) {
      const auto ids = tokens.encode(text);
      BOOST_TEST(ids == t.at("ids").get<std::vector<token_id>>(), boost::test_tools::per_element());
      BOOST_TEST(tokens.encode(text, specials::as_tokens) == t.at("with_names").get<std::vector<token_id>>(),
                 boost::test_tools::per_element());
      if (text.find("<tool>") != text.npos || text.find("\u2581") != text.npos) continue;  // blanks behind a token, blanks of another look
      BOOST_TEST(tokens.decode(ids) == (name == "llama" && !text.empty() ? " " : "") + text);
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_CASE(llama_equals_llama_cpp) { check_case("llama"); }
BOOST_AUTO_TEST_CASE(llama_with_stretched_positions_and_a_tied_head_equals_llama_cpp) { check_case("llama3"); }
BOOST_AUTO_TEST_CASE(mamba_equals_llama_cpp) { check_case("mamba"); }
BOOST_AUTO_TEST_CASE(mixture_of_experts_equals_llama_cpp) { check_case("mixtral"); }
BOOST_AUTO_TEST_CASE(sentence_pieces_equal_llama_cpp) { check_texts("llama"); }
BOOST_AUTO_TEST_CASE(byte_pairs_of_llama3_equal_llama_cpp) { check_texts("llama3"); }
BOOST_AUTO_TEST_CASE(byte_pairs_of_gpt2_equal_llama_cpp) { check_texts("mixtral"); }
BOOST_AUTO_TEST_CASE(byte_pairs_with_user_defined_tokens_equal_llama_cpp) { check_texts("mamba"); }

BOOST_AUTO_TEST_CASE(the_config_is_that_of_config_json) {
  const auto llama = read_gguf_model(opened(gguf_file_of(golden_gguf("llama"))));
  BOOST_TEST_REQUIRE(llama.has_value());
  BOOST_TEST(llama->config.architecture == "LlamaForCausalLM");
  BOOST_TEST(!llama->config.tied_head);
  BOOST_TEST(llama->tensors.find("model.layers.1.self_attn.q_proj.weight") != nullptr);
  const auto stretched = read_gguf_model(opened(gguf_file_of(golden_gguf("llama3"))));
  BOOST_TEST_REQUIRE(stretched.has_value());
  BOOST_TEST(stretched->config.tied_head);
  const hf_rope& rope = stretched->config.rope.value();
  BOOST_TEST((rope.scaling == hf_rope::scaling_kind::llama3));
  BOOST_TEST(rope.factor == 8);
  BOOST_TEST(rope.original_context == 128);
  const auto experts = read_gguf_model(opened(gguf_file_of(golden_gguf("mixtral"))));
  BOOST_TEST_REQUIRE(experts.has_value());
  BOOST_TEST(experts->config.architecture == "MixtralForCausalLM");
  BOOST_TEST(experts->tensors.find("model.layers.1.block_sparse_moe.experts.gate_proj.weight") != nullptr);
}

BOOST_AUTO_TEST_CASE(templates_are_kept_and_long_texts_are_no_burden) {
  const auto tokens = tokenizer_of(opened(gguf_file_of(golden_gguf("llama"))));
  BOOST_TEST_REQUIRE(tokens.chat_template() != nullptr);
  BOOST_TEST(*tokens.chat_template() == "{{ bos_token }}{{ messages[0].content }}");
  BOOST_TEST(tokens.chat_template("tool_use") == nullptr);
  const std::string text(300'000, 'a');
  BOOST_TEST(tokens.decode(tokens.encode(text)) == " " + text);
}

BOOST_AUTO_TEST_CASE(what_is_not_understood_is_refused_by_name) {
  const std::string llama = gguf_file_of(golden_gguf("llama")), stretched = gguf_file_of(golden_gguf("llama3")),
                    mamba = gguf_file_of(golden_gguf("mamba"));
  const auto refusal = [](const std::string& file, errc code) {
    const auto model = import_gguf(opened(file));
    BOOST_TEST_REQUIRE(!model.has_value());
    BOOST_TEST((model.error().code == code), model.error().message);
    return model.error().message;
  };
  const auto has = [](const std::string& text, const char* words) { BOOST_TEST(text.find(words) != text.npos, text); };
  const std::string length(1, '\5');  // a string's first byte
  has(refusal(changed(llama, length + std::string(7, '\0') + "llama", length + std::string(7, '\0') + "qwen2"), errc::unsupported),
      "general.architecture: \"qwen2\" is not supported, only llama, mamba");
  has(refusal(changed(llama, "llama.context_length", "llama.contexx_length"), errc::unsupported), "unknown key \"llama.contexx_length\"");
  for (const auto& [file, name] : {std::pair{llama, "llama"}, {mamba, "mamba"}})  // llama.cpp asks for it, too
    has(refusal(changed(file, ".layer_norm_rms_epsilon", ".layer_norm_rms_epsilom"), errc::not_found),
        ("no key \"" + std::string(name) + ".attention.layer_norm_rms_epsilon\"").c_str());
  has(refusal(changed(llama, "blk.1.ffn_up.weight", "blk.1.ffn_xy.weight"), errc::not_found), "blk.1.ffn_up.weight");
  has(refusal(changed(mamba, "blk.1.ssm_out.weight", "blk.2.ssm_out.weight"), errc::not_found), "blk.1.ssm_out.weight");
  has(refusal(changed(stretched, "rope_freqs.weight", "rope_fxxqs.weight"), errc::unsupported), "tensor \"rope_fxxqs.weight\" is none");
  const std::string experts = gguf_file_of(golden_gguf("mixtral"));
  has(refusal(changed(experts, "llama.expert_used_count", "llama.expert_uxed_count"), errc::not_found),
      "no key \"llama.expert_used_count\"");
  has(refusal(changed(experts, "blk.1.ffn_up_exps.weight", "blk.1.ffn_up_shexp.weigh"), errc::not_found), "blk.1.ffn_up_exps.weight");
  json golden = golden_gguf("llama3");
  for (json& t : golden["tensors"])
    if (t.at("name") == "rope_freqs.weight") t["values"][5] = 1.5;
  has(refusal(gguf_file_of(golden), errc::unsupported), "rope_freqs.weight holds no factors that Llama 3's rule gives");
  golden = golden_gguf("mamba");
  for (json& t : golden["tensors"])
    if (t.at("name") == "blk.0.ssm_a") t["values"] = std::vector<float>(t.at("count").get<std::size_t>(), 0.5F);
  has(refusal(gguf_file_of(golden), errc::out_of_range), "blk.0.ssm_a");
}

/// Rows of q and k are moved as they are encoded: the numbers are those of the rows moved by themselves.
BOOST_AUTO_TEST_CASE(rows_of_quantised_matrices_are_moved_whole) {
  using b = gguf_builder;
  gguf_builder file;
  file.head(11, 6).text_key("general.architecture", "llama");
  for (const auto& [key, value] :
       {std::pair{"embedding_length", 32}, {"block_count", 1}, {"feed_forward_length", 32}, {"attention.head_count", 2}})
    file.key(std::string("llama.") + key, b::u32).add(std::uint32_t(value));
  file.key("llama.attention.layer_norm_rms_epsilon", b::f32).add(1e-5F);
  std::uint64_t offset = 0;
  for (const char* name : {"attn_k", "attn_output", "attn_q", "attn_v", "ffn_down", "ffn_gate", "ffn_up"}) {
    file.tensor(std::string("blk.0.") + name + ".weight", {32, 32}, 8, offset);  // Q8_0: a row is a block of 34 bytes
    offset += 32 * 34;
  }
  for (const char* name : {"blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"}) {
    file.tensor(name, {32}, 0, offset);
    offset += 128;
  }
  file.tensor("token_embd.weight", {32, 4}, 0, offset).pad();
  for (int matrix = 0; matrix < 7; ++matrix)
    for (int row = 0; row < 32; ++row) {
      file.add(std::uint16_t{0x3c00});  // 1
      for (int column = 0; column < 32; ++column) file.add(static_cast<std::int8_t>(row));
    }
  file.zeros(3 * 128 + 512);
  const auto opened_file = open_gguf(memory_source(file.bytes(), "rows.gguf"));
  BOOST_TEST_REQUIRE(opened_file.has_value(), (opened_file ? "" : opened_file.error().message));
  const auto model = read_gguf_model(*opened_file);
  BOOST_TEST_REQUIRE(model.has_value(), (model ? "" : model.error().message));
  std::vector<float> q(32 * 32), v(32 * 32);
  BOOST_TEST_REQUIRE(model->tensors.find("model.layers.0.self_attn.q_proj.weight")->read_floats(q).has_value());
  BOOST_TEST_REQUIRE(model->tensors.find("model.layers.0.self_attn.v_proj.weight")->read_floats(v).has_value());
  for (std::size_t row = 0; row < 32; ++row) {
    const std::size_t head = row / 16 * 16, half = row % 16 / 8, pair = row % 8;
    BOOST_TEST(q[row * 32] == static_cast<float>(head + 2 * pair + half));
    BOOST_TEST(v[row * 32] == static_cast<float>(row));
  }
}

BOOST_AUTO_TEST_SUITE_END()
