#include "framework/models/export.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/models/import.hpp"
#include "tests/framework/formats/gguf_golden.hpp"
#include "tests/launcher/prepared_run.hpp"

#include <boost/test/unit_test.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>
#include <string>
#include <sys/wait.h>
#include <thread>

using namespace isthmus;
using namespace isthmus::tests;
using nlohmann::json;

BOOST_AUTO_TEST_SUITE(conversions)

namespace {

json greedy_text(const std::string& from, const surroundings& where = {}) {
  const auto o = run_isthmus({"generate", from, "--prompt", "The ", "--tokens", "12", "--temperature", "0", "--json"}, where);
  BOOST_TEST_REQUIRE(o.code == 0, o.err);
  return json::parse(o.out).at("text");
}

std::size_t entries(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

/// Weights that the model of a folder's config begins with.
void write_fresh_weights(const std::string& folder) {
  const auto model = config_of_hugging_face(folder);
  BOOST_TEST_REQUIRE(model.has_value(), (model ? "" : model.error().message));
  std::vector<float> weights(static_cast<std::size_t>(hybrid_layout(*model).size));
  initial_weights(*model, 1, weights);
  const auto disk = open_disk(folder);
  BOOST_TEST_REQUIRE(disk.has_value());
  const auto ok = export_hugging_face(**disk, ".", *model, weights, {}, dtype::f32);
  BOOST_TEST_REQUIRE(ok.has_value(), (ok ? "" : ok.error().message));
}

/// A model of llama.cpp with a byte-level tokenizer, or with SentencePiece's.
std::string gguf_in(const scratch_folder& folder, const char* name) {
  const std::string path = (folder.path / (std::string(name) + ".gguf")).string();
  std::ofstream(path, std::ios::binary) << testing::gguf_file_of(testing::golden_gguf(name));
  return path;
}

/// A GGUF file with a token that its model has no row for. What is put in has 32 bytes, so that tensors stay aligned.
std::string with_one_more_token(std::string file) {
  const auto at = [&](std::size_t where) -> std::uint64_t {
    std::uint64_t value = 0;
    std::memcpy(&value, file.data() + where, sizeof value);
    return value;
  };
  const auto bytes_of = [](auto value) { return std::string(reinterpret_cast<const char*>(&value), sizeof value); };
  const auto count_of = [&](std::string_view key) { return file.find(key) + key.size() + 8; };  // behind two u32, the kinds
  const std::size_t tokens = count_of("tokenizer.ggml.tokens");
  const std::uint64_t count = at(tokens);
  std::size_t end = tokens + 8;
  for (std::uint64_t i = 0; i < count; ++i) end += 8 + at(end);
  file.insert(end, bytes_of(std::uint64_t{20}) + "a_token_without_rows");
  file.replace(tokens, 8, bytes_of(count + 1));
  const std::size_t types = count_of("tokenizer.ggml.token_type");
  file.insert(types + 8 + 4 * count, bytes_of(std::int32_t{1}));
  return file.replace(types, 8, bytes_of(count + 1));
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_run_becomes_a_folder_that_writes_the_same_text) {
  prepared_runs runs;
  const std::string run = runs.add("mine");
  const std::string folder = (runs.scratch.path / "converted").string();
  BOOST_TEST(contains(runs.go({"convert", "mine", folder}).err, "has no checkpoint yet"));
  runs.add_checkpoint(run);
  const auto o = runs.go({"convert", "mine", folder + "/", "--json"});
  BOOST_TEST_REQUIRE(o.code == 0, o.err);
  BOOST_TEST(json::parse(o.out).at("folder") == folder);
  BOOST_TEST(json::parse(o.out).at("dtype") == "f32");
  BOOST_TEST(greedy_text(folder) == greedy_text("mine", runs.where));
  // For others, too, texts begin behind the end of others.
  const json tokens = json::parse(testing::text_of_file(folder + "/tokenizer.json"));
  const json begin = {{"SpecialToken", {{"id", "<|endoftext|>"}, {"type_id", 0}}}};
  BOOST_TEST(tokens.at("post_processor").at("processors").at(1).at("single").at(0) == begin);
  BOOST_TEST(contains(runs.go({"convert", folder, folder + "-again", "--dtype", "bf16"}).out, "parameters in bf16"));
  BOOST_TEST(std::filesystem::exists(folder + "-again/tokenizer_config.json"));
}

BOOST_AUTO_TEST_CASE(gguf_files_write_text_and_become_folders) {
  const scratch_folder scratch;
  for (const char* name : {"llama", "llama3", "mamba"}) {
    const std::string file = gguf_in(scratch, name);
    BOOST_TEST(greedy_text(file).is_string());
  }
  const std::string file = gguf_in(scratch, "llama3"), folder = (scratch.path / "folder").string();
  const auto o = run_isthmus({"convert", file, folder});
  BOOST_TEST_REQUIRE(o.code == 0, o.err);
  BOOST_TEST(contains(o.out, "LlamaForCausalLM"), o.out);
  BOOST_TEST(greedy_text(folder) == greedy_text(file));
  const auto pieces = run_isthmus({"convert", gguf_in(scratch, "llama"), folder + "-pieces"});
  BOOST_TEST_REQUIRE(pieces.code == 0, pieces.err);
  const json tokens = json::parse(testing::text_of_file(folder + "-pieces/tokenizer.json"));
  BOOST_TEST(tokens.at("model").at("byte_fallback") == true);
  BOOST_TEST(tokens.at("model").at("vocab").size() == 531U);
  BOOST_TEST(json::parse(testing::text_of_file(folder + "-pieces/tokenizer_config.json")).at("bos_token") == "<s>");
  BOOST_TEST(greedy_text(folder + "-pieces") == greedy_text(gguf_in(scratch, "llama")));
  const auto added = run_isthmus({"convert", gguf_in(scratch, "mamba"), folder + "-added", "--dtype", "f16"});
  BOOST_TEST_REQUIRE(added.code == 0, added.err);
  BOOST_TEST(contains(added.out, "MambaForCausalLM"), added.out);
  const json vocabulary = json::parse(testing::text_of_file(folder + "-added/tokenizer.json")).at("model").at("vocab");
  BOOST_TEST(vocabulary.size() == 516U);
  BOOST_TEST(vocabulary.at("the <tool>") == 515);
}

/// Of a byte-level vocabulary whose begin token is not the one of our runs.
BOOST_AUTO_TEST_CASE(the_begin_token_of_a_gguf_file_is_that_of_its_folder) {
  const scratch_folder scratch;
  const std::string file = (scratch.path / "llama3.gguf").string(), folder = (scratch.path / "folder").string();
  std::string bytes = testing::gguf_file_of(testing::golden_gguf("llama3"));
  const std::string name = "<|begintext|>";  // as long as the other
  const std::size_t at = bytes.find("<|endoftext|>");
  BOOST_TEST_REQUIRE(at != std::string::npos);
  bytes.replace(at, name.size(), name);
  std::ofstream(file, std::ios::binary) << bytes;
  const auto o = run_isthmus({"convert", file, folder});
  BOOST_TEST_REQUIRE(o.code == 0, o.err);
  BOOST_TEST(greedy_text(folder) == greedy_text(file));
  const json tokens = json::parse(testing::text_of_file(folder + "/tokenizer.json"));
  const json single = tokens.at("post_processor").at("processors").at(1).at("single");
  BOOST_TEST(single.at(0).at("SpecialToken").at("id") == name);
  BOOST_TEST(json::parse(testing::text_of_file(folder + "/tokenizer_config.json")).at("bos_token") == name);
}

BOOST_AUTO_TEST_CASE(a_vocabulary_of_more_tokens_than_the_model_has_rows_is_refused) {
  const scratch_folder scratch;
  const std::string file = (scratch.path / "llama3.gguf").string(), folder = (scratch.path / "folder").string();
  std::ofstream(file, std::ios::binary) << with_one_more_token(testing::gguf_file_of(testing::golden_gguf("llama3")));
  for (const auto& verb : {std::vector<std::string>{"convert", file, folder}, {"generate", file, "--prompt", "x"}}) {
    const auto told = run_isthmus(verb);
    BOOST_TEST(told.code == 5);
    BOOST_TEST(contains(told.err, "llama3.gguf: a vocabulary of 513 tokens, but the model has 512"), told.err);
  }
  BOOST_TEST(!std::filesystem::exists(folder));
}

/// A folder's facts beside the mathematics, and all files of its tokenizer.
BOOST_AUTO_TEST_CASE(what_a_folder_says_of_its_tokens_is_kept) {
  const scratch_folder scratch;
  const std::string from = (scratch.path / "from").string(), folder = (scratch.path / "folder").string();
  std::filesystem::create_directory(from);
  json config = json::parse(testing::text_of_file("tests/golden/hf/llama.json")).at("config");
  config.update({{"bos_token_id", 4}, {"eos_token_id", {5, 7, 9}}, {"pad_token_id", 3}});
  const auto write_config = [&] { std::ofstream(from + "/config.json") << config.dump(); };
  write_config();
  write_fresh_weights(from);
  write_config();
  const json files{{"vocab.json", "{\"a\": 0}"}, {"merges.txt", "#version: 0.2\na b\n"}, {"added_tokens.json", "{}\n"}};
  for (const auto& [name, text] : files.items()) std::ofstream(from + "/" + name) << text.get<std::string>();
  const auto o = run_isthmus({"convert", from, folder});
  BOOST_TEST_REQUIRE(o.code == 0, o.err);
  const json written = json::parse(testing::text_of_file(folder + "/config.json"));
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) BOOST_TEST(written.at(key) == config.at(key));
  for (const auto& [name, text] : files.items()) BOOST_TEST(testing::text_of_file(folder + "/" + name) == text.get<std::string>());
  for (const char* broken : {"", "{\"model\": "}) {
    std::ofstream(from + "/tokenizer.json") << broken;
    const auto told = run_isthmus({"convert", from, folder + "-2"});
    BOOST_TEST(told.code == 5);
    BOOST_TEST(contains(told.err, "from/tokenizer.json: not valid JSON"), told.err);
    BOOST_TEST(!std::filesystem::exists(folder + "-2"));
  }
}

/// Of M2-BERT: what converts twice is the same file, and what cannot be written is refused before weights are looked for.
BOOST_AUTO_TEST_CASE(encoders_become_folders_and_what_cannot_be_written_is_told_at_once) {
  const scratch_folder scratch;
  const std::string from = (scratch.path / "from").string(), folder = (scratch.path / "folder").string();
  std::filesystem::create_directory(from);
  std::ofstream(from + "/vocab.txt") << "[PAD]\n";
  const json config = json::parse(testing::text_of_file("tests/golden/hf/m2_bert.json")).at(0).at("config");
  const auto told_of = [&](json other) {
    std::ofstream(from + "/config.json") << other.dump();
    return run_isthmus({"convert", from, folder}).err;
  };
  json other = config;
  other["layer_norm_eps"] = 1e-5;
  BOOST_TEST(contains(told_of(other), "layer_norm_eps other than 1e-12"));
  other = config;
  other["architectures"] = {"BertForTextEncoding"};
  BOOST_TEST(contains(told_of(other), "has a pooler in place of a head"));
  BOOST_TEST(contains(told_of(config), "model.safetensors"));  // it can be written, but is not there
  write_fresh_weights(from);
  const auto o = run_isthmus({"convert", from, folder});
  BOOST_TEST_REQUIRE(o.code == 0, o.err);
  BOOST_TEST(contains(o.out, "BertForMaskedLM"), o.out);
  BOOST_TEST(testing::text_of_file(folder + "/vocab.txt") == "[PAD]\n");
  const auto again = run_isthmus({"convert", folder, folder + "-2"});
  BOOST_TEST_REQUIRE(again.code == 0, again.err);
  BOOST_TEST((testing::text_of_file(folder + "-2/model.safetensors") == testing::text_of_file(folder + "/model.safetensors")));
  BOOST_TEST(testing::text_of_file(folder + "-2/config.json") == testing::text_of_file(folder + "/config.json"));

  prepared_runs runs;
  runs.add("deltas", 'a', 1000, {"model.pattern=[\"gated_delta_net\"]"});
  const auto told = runs.go({"convert", "deltas", folder + "-3"});
  BOOST_TEST(told.code != 0);
  BOOST_TEST(contains(told.err, "layer 0 is gated_delta_net"), told.err);
}

/// Of Transformers some versions norm Mamba-2's groups apart, others together; none has Medusa heads.
BOOST_AUTO_TEST_CASE(what_stays_behind_and_what_older_versions_read_otherwise_is_noted) {
  const scratch_folder scratch;
  const auto converted = [&](const std::string& name, std::vector<std::string> more) {
    const std::string from = (scratch.path / name).string();
    if (std::filesystem::create_directory(from)) {
      std::ofstream(from + "/config.json") << json::parse(testing::text_of_file("tests/golden/hf/" + name + ".json")).at("config").dump();
      write_fresh_weights(from);
    }
    more.insert(more.begin(), {"convert", from, fmt::format("{}-{}", from, more.size())});
    const auto o = run_isthmus(more);
    BOOST_TEST_REQUIRE(o.code == 0, o.err);
    return o;
  };
  for (const auto& [name, says] : {std::pair{"mamba2_groups", "Mamba2ForCausalLM with 2 groups wants Transformers 5.23 or newer"},
                                   {"bamba", "BambaForCausalLM with 2 groups wants Transformers 5.23 or newer"},
                                   {"granite_dense", "GraniteMoeHybridForCausalLM with 2 groups wants Transformers 5.23 or newer"}}) {
    BOOST_TEST(contains(converted(name, {}).err, says), name);
    const json notes = json::parse(converted(name, {"--json"}).out).at("notes");
    BOOST_TEST_REQUIRE(notes.size() == 1U, name);
    BOOST_TEST(notes.at(0).get<std::string>().starts_with(says), notes.dump());
  }
  for (const char* name : {"mamba2", "nemotron_h", "jamba"}) {  // one group; each group apart in every version; no Mamba-2
    BOOST_TEST(json::parse(converted(name, {"--json"}).out).at("notes").empty(), name);
    BOOST_TEST(!contains(converted(name, {}).err, "Transformers"), name);
  }
  prepared_runs runs;
  runs.add_checkpoint(runs.add("ahead", 'a', 1000, {"model.medusa_heads=2"}));
  const auto o = runs.go({"convert", "ahead", (scratch.path / "ahead").string(), "--json"});
  BOOST_TEST_REQUIRE(o.code == 0, o.err);
  BOOST_TEST(contains(json::parse(o.out).at("notes").at(0).get<std::string>(), "the 2 Medusa heads of"), o.out);
}

BOOST_AUTO_TEST_CASE(nothing_is_overwritten_and_nothing_is_left_behind) {
  const scratch_folder scratch;
  const std::string file = gguf_in(scratch, "llama3"), folder = (scratch.path / "folder").string();
  std::filesystem::create_directory(folder);
  std::ofstream(folder + "/mine") << "x";
  const auto there = run_isthmus({"convert", file, folder});
  BOOST_TEST(there.code == 2);
  BOOST_TEST(contains(there.err, folder + " is there already"), there.err);
  BOOST_TEST(entries(folder) == 1U);
  const std::size_t before = entries(scratch.path);
  std::filesystem::resize_file(file, 20'000);
  const auto cut = run_isthmus({"convert", file, folder + "-3"});
  BOOST_TEST(contains(cut.err, "llama3.gguf"), cut.err);
  BOOST_TEST(contains(run_isthmus({"generate", file, "--prompt", "x"}).err, "llama3.gguf"));
  BOOST_TEST(entries(scratch.path) == before);
  BOOST_TEST(contains(run_isthmus({"convert", file, folder + "-4", "--dtype", "int8"}).err, "int8 not in {f32,bf16,f16}"));
}

/// Asked to stop while it writes, it takes back what it wrote.
BOOST_AUTO_TEST_CASE(a_conversion_that_is_stopped_leaves_nothing) {
  const scratch_folder scratch;
  const std::string from = (scratch.path / "from").string();
  std::filesystem::create_directory(from);
  json config = json::parse(testing::text_of_file("tests/golden/hf/llama.json")).at("config");
  config["vocab_size"] = 150'000;
  std::ofstream(from + "/config.json") << config.dump();
  write_fresh_weights(from);
  const surroundings where{{}, {}, (scratch.path / "log").string(), false, ~std::size_t{0}};
  const auto partial = [&] {
    for (const auto& entry : std::filesystem::directory_iterator(scratch.path))
      if (contains(entry.path().filename().string(), ".partial-")) return true;
    return false;
  };
  for (const int signal : {SIGTERM, SIGINT}) {
    std::signal(signal, SIG_DFL);  // shells ignore SIGINT in what they start behind them
    int status = 0;
    for (int attempt = 0; attempt < 20 && !WIFSIGNALED(status); ++attempt) {  // where it was ready before it was asked, again
      const auto to = scratch.path / ("to-" + std::to_string(signal) + "-" + std::to_string(attempt));
      const pid_t child = start_isthmus({"convert", from, to.string()}, where);
      bool ended = false;
      while (!partial() && !(ended = ::waitpid(child, &status, WNOHANG) == child))
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (!ended) {
        ::kill(child, signal);
        ::waitpid(child, &status, 0);
      }
      BOOST_TEST(!partial());
      BOOST_TEST(std::filesystem::exists(to) == !WIFSIGNALED(status));
    }
    BOOST_TEST((WIFSIGNALED(status) && WTERMSIG(status) == signal));
  }
}

BOOST_AUTO_TEST_SUITE_END()
