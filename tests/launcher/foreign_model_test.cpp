#include "framework/formats/hf_config.hpp"
#include "framework/formats/hugging_face.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import.hpp"
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

/// A small Llama with random weights and the tokenizer of the golden files, 512 tokens, as a Hugging Face folder.
struct llama_folder {
  explicit llama_folder(std::int64_t vocabulary = 512) {
    std::ifstream golden("tests/golden/hf/llama.json");
    json told = json::parse(golden).at("config");
    told["vocab_size"] = vocabulary;
    const std::string text = told.dump();
    std::ofstream(folder.path / "config.json") << text;
    const auto theirs = read_hf_config(text, "config.json");
    BOOST_TEST_REQUIRE(theirs.has_value());
    std::vector<std::vector<float>> numbers;
    std::vector<tensor_view> views;
    const auto add = [&](const hf_tensor& t) {
      std::int64_t count = 1;
      for (const auto extent : t.shape) count *= extent;
      auto& values = numbers.emplace_back(static_cast<std::size_t>(count));
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((i * 7919 + numbers.size()) % 1000) / 1000 - 0.5F;
      views.push_back({t.name, dtype::f32, t.shape, std::as_bytes(std::span(values))});
    };
    numbers.reserve(64);
    for (const auto& t : model_tensors(*theirs)) add(t);
    for (std::size_t i = 0; i < theirs->layers.size(); ++i)
      for (const auto& t : layer_tensors(*theirs, i)) add(t);
    const auto disk = open_disk(folder.path.string());
    BOOST_TEST_REQUIRE(disk.has_value());
    BOOST_TEST_REQUIRE(write_hugging_face(**disk, ".", views).has_value());
    std::filesystem::copy_file("tests/golden/tokenizer/tokenizer.json", folder.path / "tokenizer.json");
  }
  outcome generate(std::vector<std::string> more) const {
    std::vector<std::string> all{"generate", folder.path.string(), "--prompt", "The ", "--tokens", "12"};
    all.insert(all.end(), more.begin(), more.end());
    return run_isthmus(all);
  }
  scratch_folder folder;
};

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

BOOST_AUTO_TEST_CASE(an_encoder_writes_no_text) {
  scratch_folder folder;
  std::ifstream golden("tests/golden/hf/m2_bert.json");
  std::ofstream(folder.path / "config.json") << json::parse(golden).at(0).at("config").dump();
  const auto told = run_isthmus({"generate", folder.path.string(), "--prompt", "The "});
  BOOST_TEST(told.code != 0);
  BOOST_TEST(contains(told.err, "its model reads whole texts and predicts masked tokens"), told.err);
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_told) {
  const llama_folder other(500);
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
