#include "framework/formats/hf_config.hpp"
#include "framework/formats/hugging_face.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import.hpp"
#include "tests/framework/formats/gguf_golden.hpp"
#include "tests/framework/models/golden_values.hpp"
#include "tests/launcher/program.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>

using namespace isthmus;
using namespace isthmus::tests;
using nlohmann::json;

BOOST_AUTO_TEST_SUITE(foreign_models)

namespace {

/// value_of of tests/golden/make_hf_golden.py, of a Llama's tensors.
float value_of(std::string_view name, std::uint64_t seed, std::uint64_t i) {
  const double u = testing::golden_uniform(name, seed, i);
  if (name.ends_with("norm.weight")) return static_cast<float>(1 + 0.5 * u);
  return static_cast<float>(name.find("embed") != name.npos || name.ends_with("lm_head.weight") ? u : 0.75 * u);
}

/// A small Llama of the golden files with random weights, and their tokenizer of 512 tokens, as a Hugging Face folder.
struct llama_folder {
  explicit llama_folder(const json& changed_config = {{"vocab_size", 512}}, const json& changed_tokenizer = json::object(),
                        std::uint64_t seed = 1) {
    json told = json::parse(testing::text_of_file("tests/golden/hf/llama.json")).at("config");
    told.update(changed_config);
    write("config.json", told);
    json tokens = json::parse(testing::text_of_file("tests/golden/tokenizer/tokenizer.json"));
    tokens.update(changed_tokenizer);
    write("tokenizer.json", tokens);
    const auto theirs = read_hf_config(told.dump(), "config.json");
    BOOST_TEST_REQUIRE(theirs.has_value());
    std::vector<std::vector<float>> numbers;
    std::vector<tensor_view> views;
    const auto add = [&](const hf_tensor& t) {
      std::int64_t count = 1;
      for (const auto extent : t.shape) count *= extent;
      auto& values = numbers.emplace_back(static_cast<std::size_t>(count));
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = value_of(t.name, seed, i);
      views.push_back({t.name, dtype::f32, t.shape, std::as_bytes(std::span(values))});
    };
    numbers.reserve(64);
    for (const auto& t : model_tensors(*theirs)) add(t);
    for (std::size_t i = 0; i < theirs->layers.size(); ++i)
      for (const auto& t : layer_tensors(*theirs, i)) add(t);
    const auto disk = open_disk(path());
    BOOST_TEST_REQUIRE(disk.has_value());
    BOOST_TEST_REQUIRE(write_hugging_face(**disk, ".", views).has_value());
  }
  std::string path() const { return folder.path.string(); }
  void write(const char* name, const json& value) const { std::ofstream(folder.path / name) << value.dump(); }
  outcome generate(std::vector<std::string> more) const {
    std::vector<std::string> all{"generate", path(), "--prompt", "The ", "--tokens", "12"};
    all.insert(all.end(), more.begin(), more.end());
    return run_isthmus(all);
  }
  scratch_folder folder;
};

json greedy(const std::string& from, const json& golden) {
  const auto o = run_isthmus(
      {"generate", from, "--prompt", golden.at("prompt"), "--tokens", golden.at("tokens").dump(), "--temperature", "0", "--json"});
  BOOST_TEST_REQUIRE(o.code == 0, o.err);
  return json::parse(o.out);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_folder_of_another_system_writes_text) {
  const llama_folder llama;
  const auto plain = llama.generate({"--temperature", "0", "--json"});
  BOOST_TEST_REQUIRE(plain.code == 0, plain.err);
  const json answer = json::parse(plain.out);
  BOOST_TEST(answer.at("checkpoint").get<std::string>() == llama.folder.path.string());
  BOOST_TEST(answer.at("run").is_null());
  BOOST_TEST(answer.at("tokens").get<int>() >= 1);
  BOOST_TEST(json::parse(llama.generate({"--temperature", "0", "--json"}).out).at("text") == answer.at("text"));
  for (const char* format : {"bf16", "int8", "int4"}) {
    const auto text = llama.generate({"--weights", format});
    BOOST_TEST(text.code == 0, format << ": " << text.err);
    BOOST_TEST(contains(text.out, "The "));
  }
  const auto rounded = llama.generate({"--kv-cache", "bf16"});
  BOOST_TEST(rounded.code == 0, rounded.err);
}

BOOST_AUTO_TEST_CASE(weights_that_are_not_finite_write_no_text) {
  const llama_folder llama;
  const std::string path = (llama.folder.path / "model.safetensors").string();
  std::fstream weights(path, std::ios::binary | std::ios::in | std::ios::out);
  weights.seekp(static_cast<std::streamoff>(std::filesystem::file_size(path)) - 4);
  weights.write("\x00\x00\xc0\x7f", 4);  // the last number: not a number
  weights.close();
  for (const auto& told :
       {llama.generate({}), run_isthmus({"convert", llama.folder.path.string(), (llama.folder.path / "converted").string()})}) {
    BOOST_TEST(told.code == 5);
    BOOST_TEST(contains(told.err, "holds nan at ["), told.err);
    BOOST_TEST(contains(told.err, "[not_finite]"), told.err);
  }
}

BOOST_AUTO_TEST_CASE(logits_that_are_not_finite_are_told) {
  const llama_folder llama;
  const std::string path = (llama.folder.path / "model.safetensors").string();
  std::fstream weights(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto numbers = static_cast<std::streamoff>(std::filesystem::file_size(path) / 8);  // the last half of the file
  weights.seekp(-4 * numbers, std::ios::end);
  for (std::streamoff i = 0; i < numbers; ++i) weights.write("\x00\x00\x7f\x7f", 4);  // 3.39e38
  weights.close();
  const auto told = llama.generate({});
  BOOST_TEST(told.code == 5, told.err);
  BOOST_TEST(contains(told.err, "the model predicts "), told.err);
  BOOST_TEST(contains(told.err, "[not_finite]"), told.err);
}

/// Written by tests/golden/make_text_golden.py: where a text begins and ends.
BOOST_AUTO_TEST_CASE(a_folder_writes_the_text_that_transformers_writes) {
  const json golden = json::parse(testing::text_of_file("tests/golden/hf_texts.json"));
  for (const json& c : golden) {
    const llama_folder llama(c.at("config"), c.at("tokenizer"), c.at("seed"));
    if (!c.at("generation_config").is_null()) llama.write("generation_config.json", c.at("generation_config"));
    BOOST_TEST_CONTEXT(c.at("name")) {  // "wide": ids behind the tokenizer's show as nothing
      const json text = greedy(llama.path(), c);
      BOOST_TEST(text.at("text") == c.at("text"));
      BOOST_TEST(text.at("tokens") == c.at("ids").size());
    }
  }
}

BOOST_AUTO_TEST_CASE(a_generation_config_that_is_unsound_is_told) {
  const llama_folder llama;
  llama.write("generation_config.json", {{"eos_token_id", {1, 512}}});
  const auto told = llama.generate({});
  BOOST_TEST(told.code == 5);
  BOOST_TEST(contains(told.err, "generation_config.json: eos_token_id: is 512, expected an id from 0 to 511"), told.err);
}

BOOST_AUTO_TEST_CASE(an_encoder_writes_no_text) {
  scratch_folder folder;
  std::ifstream golden("tests/golden/hf/m2_bert.json");
  std::ofstream(folder.path / "config.json") << json::parse(golden).at(0).at("config").dump();
  const auto told = run_isthmus({"generate", folder.path.string(), "--prompt", "The "});
  BOOST_TEST(told.code != 0);
  BOOST_TEST(contains(told.err, "its model reads whole texts and predicts masked tokens"), told.err);
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_told) {
  const llama_folder other(json{{"vocab_size", 500}});
  const auto vocabulary = other.generate({});
  BOOST_TEST(vocabulary.code != 0);
  BOOST_TEST(contains(vocabulary.err, "tokenizer.json: a vocabulary of 512 tokens, but the model has 500"), vocabulary.err);
  std::ifstream golden("tests/golden/tokenizer/characters.json");
  const json all = json::parse(golden);
  json characters = all.at("file");
  characters.update(all.at("variants").at(0).at("parts"));
  std::ofstream(other.folder.path / "tokenizer.json") << characters.dump();
  const json error = json::parse(other.generate({"--json"}).out).at("error");
  BOOST_TEST(error.at("code") == "out_of_range", error.dump());
  BOOST_TEST(contains(error.at("message").get<std::string>(), "but the model has 500"), error.dump());
  const llama_folder llama;
  BOOST_TEST(contains(llama.generate({"--site", "alpha"}).err, "--site goes with a run"));
  BOOST_TEST(contains(llama.generate({"--weights", "int3"}).err, "int3 not in {master,bf16,int8,int4}"));
  BOOST_TEST(contains(llama.generate({"--kv-cache", "int8"}).err, "int8 not in {full,bf16}"));
  std::filesystem::resize_file(llama.folder.path / "model.safetensors", 1000);
  const auto cut = llama.generate({});
  BOOST_TEST(cut.code != 0);
  BOOST_TEST(contains(cut.err, "model.safetensors"), cut.err);
}

BOOST_AUTO_TEST_SUITE_END()
