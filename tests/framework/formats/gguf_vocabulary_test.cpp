#include "framework/formats/gguf_vocabulary.hpp"
#include "framework/tokenizer/byte_alphabet.hpp"
#include "tests/framework/formats/gguf_builder.hpp"
#include "tests/framework/formats/scratch_folder.hpp"

#include <boost/test/unit_test.hpp>

#include <functional>
#include <limits>
#include <tuple>

using namespace isthmus;
using isthmus::testing::file_text;
using isthmus::testing::gguf_builder;

namespace {

gguf_file golden() { return *open_gguf(*open_source("tests/golden/formats/golden.gguf")); }

using texts = std::vector<std::string>;
using numbers = std::vector<std::int64_t>;

template <class T>
T& held(gguf_file& file, const std::string& key) {
  return std::get<T>(file.metadata.at("tokenizer.ggml." + key).data);
}

template <class T>
void refused(const expected<T>& result, errc code, const std::string& part) {
  BOOST_TEST_REQUIRE(!result.has_value(), "not refused: " << part);
  BOOST_TEST(describe(result.error().code) == describe(code), result.error().message);
  BOOST_TEST(result.error().message.find(part) != std::string::npos, result.error().message << " lacks: " << part);
}

/// The golden file's vocabulary after a change is refused at one of the two stages.
void broken(const std::function<void(gguf_file&)>& change, errc code, const std::string& part) {
  gguf_file file = golden();
  change(file);
  const auto vocabulary = read_gguf_vocabulary(file);
  if (!vocabulary) return refused(vocabulary, code, part);
  refused(to_bpe_model(*vocabulary, file.where), code, part);
}

void set(gguf_file& file, const std::string& key, gguf_value value) { file.metadata["tokenizer.ggml." + key] = std::move(value); }

/// Control tokens, 256 bytes, and pieces.
gguf_file sentence_piece() {
  gguf_file file;
  file.where = "s.gguf";
  texts tokens{"<unk>", "<s>", "</s>"};
  numbers types{2, 3, 3};
  for (unsigned byte = 0; byte < 256; ++byte) {
    constexpr const char* digits = "0123456789ABCDEF";
    tokens.push_back(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">");
    types.push_back(6);
  }
  for (const char* piece : {"\u2581", "\u2581the", "e"}) tokens.push_back(piece), types.push_back(1);
  set(file, "scores", {std::vector<double>(tokens.size(), -1.0)});
  set(file, "tokens", {tokens});
  set(file, "token_type", {types});
  set(file, "model", {std::string("llama")});
  set(file, "bos_token_id", {std::uint64_t{1}});
  set(file, "add_bos_token", {true});
  return file;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(gguf_vocabulary_test)

// The converter's arrays of the package's own tokenizer.json give what that file gives.
BOOST_AUTO_TEST_CASE(byte_level_bpe_is_the_tokenizer_of_its_json) {
  const auto file = golden();
  const auto vocabulary = read_gguf_vocabulary(file);
  BOOST_TEST_REQUIRE(vocabulary.has_value());
  BOOST_TEST(vocabulary->model == "gpt2");
  BOOST_TEST(vocabulary->pre == "gpt-2");
  BOOST_TEST((vocabulary->end.has_value() && vocabulary->add_begin == false));
  BOOST_TEST(vocabulary->chat_templates.at("") == "{{ messages[0].content }}");
  const auto model = to_bpe_model(*vocabulary, file.where);
  BOOST_TEST_REQUIRE(model.has_value(), (model ? "" : model.error().message));
  const auto same = parse_tokenizer_json(file_text("tests/golden/tokenizer/tokenizer.json"), "tokenizer.json");
  BOOST_TEST((*model == *same));
  BOOST_TEST(tokenizer(*model).end_of_text().value() == *vocabulary->end);
}

BOOST_AUTO_TEST_CASE(names_of_pre_tokenizers_give_pattern_and_whole_words) {
  for (const auto& [name, pattern, whole] : {std::tuple{"mpt", pre_token_pattern::gpt2, false},
                                             {"llama-bpe", pre_token_pattern::llama3, true},
                                             {"dbrx", pre_token_pattern::llama3, false}}) {
    gguf_file file = golden();
    set(file, "pre", {std::string(name)});
    const auto model = to_bpe_model(*read_gguf_vocabulary(file), file.where);
    BOOST_TEST_REQUIRE(model.has_value(), name);
    BOOST_TEST((model->pattern == pattern && model->whole_words == whole), name);
  }
}

BOOST_AUTO_TEST_CASE(hostile_vocabularies) {
  broken([](auto& f) { f.metadata.erase("tokenizer.ggml.model"); }, errc::not_found, "no key \"tokenizer.ggml.model\"");
  broken([](auto& f) { set(f, "model", {std::string("bert")}); }, errc::unsupported,
         "\"bert\" is not supported, only \"gpt2\" and \"llama\"");
  broken([](auto& f) { f.metadata.erase("tokenizer.ggml.tokens"); }, errc::malformed, "tokens: must be there and not empty");
  broken([](auto& f) { set(f, "tokens", {numbers{1}}); }, errc::malformed, "must be an array of strings");
  broken([](auto& f) { held<texts>(f, "tokens")[7] = "\xff"; }, errc::malformed, "token 7 must be UTF-8 of at most 4096 bytes");
  broken([](auto& f) { held<texts>(f, "tokens")[7] = std::string(10 << 20, 'a'); }, errc::malformed, "token 7 must be UTF-8");
  broken([](auto& f) { held<texts>(f, "tokens")[7] = ""; }, errc::malformed, "token 7 \"\" is too short");
  broken([](auto& f) { held<texts>(f, "tokens")[300] = held<texts>(f, "tokens")[301]; }, errc::malformed, "stands twice");
  broken([](auto& f) { held<texts>(f, "tokens")[300] = "a b"; }, errc::malformed, "is not in the byte alphabet");
  broken([](auto& f) { held<texts>(f, "tokens")[1] = "xyzzyx"; }, errc::malformed, "not a byte-level vocabulary");
  // Arrays that are shorter than the vocabulary, ids past its end: read past their ends by other readers.
  broken([](auto& f) { held<numbers>(f, "token_type").pop_back(); }, errc::malformed, "token_type: has 511 entries for 512 tokens");
  broken([](auto& f) { held<numbers>(f, "token_type")[9] = 7; }, errc::out_of_range, "token 9 has type 7");
  broken([](auto& f) { held<numbers>(f, "token_type")[9] = -1; }, errc::out_of_range, "token 9 has type -1");
  broken([](auto& f) { held<numbers>(f, "token_type")[9] = 6; }, errc::malformed, "token 9 is a byte, but is called");
  broken([](auto& f) { held<numbers>(f, "token_type")[300] = 4; }, errc::unsupported, "is user-defined");
  broken([](auto& f) { set(f, "scores", {std::vector<double>(511)}); }, errc::malformed, "scores: has 511 entries for 512 tokens");
  for (const char* key : {"bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id"})
    broken([&](auto& f) { set(f, key, {std::uint64_t{512}}); }, errc::out_of_range,
           "id 512 is past the end of the vocabulary of 512 tokens");
  broken([](auto& f) { set(f, "eos_token_id", {std::int64_t{-1}}); }, errc::out_of_range, "eos_token_id\" is -1");
  broken([](auto& f) { set(f, "add_bos_token", {std::uint64_t{1}}); }, errc::malformed, "must be a bool");
  broken([](auto& f) { set(f, "add_space_prefix", {true}); }, errc::unsupported, "add_space_prefix: true is not supported");
  broken([](auto& f) { f.metadata["tokenizer.chat_template"] = {std::uint64_t{1}}; }, errc::malformed, "chat_template: must be UTF-8 text");
  for (const char* pre : {"", "default", "deepseek-llm", "qwen2", "nonsense"})
    broken([&](auto& f) { set(f, "pre", {std::string(pre)}); }, errc::unsupported,
           "the pre-tokenizer \"" + std::string(pre) + "\" is not supported");
}

BOOST_AUTO_TEST_CASE(hostile_merges) {
  broken([](auto& f) { f.metadata.erase("tokenizer.ggml.merges"); }, errc::malformed, "merges: must be there");
  for (const char* merge : {"", " ", "ab", "a ", " b", "a b c"})
    broken([&](auto& f) { held<texts>(f, "merges")[3] = merge; }, errc::malformed, "must be \"left right\"");
  broken([](auto& f) { held<texts>(f, "merges")[3] = "qqq a"; }, errc::malformed, "merge 3 \"qqq a\" joins \"qqq\", which is no token");
  broken([](auto& f) { held<texts>(f, "merges")[3] = "q Z"; }, errc::malformed, "merge 3 \"q Z\" gives what is no token");
  broken([](auto& f) { held<texts>(f, "merges")[3] = held<texts>(f, "merges")[2]; }, errc::malformed, "stands twice");
  broken([](auto& f) { held<texts>(f, "merges")[3] = "<|endoftext|> a"; }, errc::malformed, "which is no token");
}

BOOST_AUTO_TEST_CASE(sentence_piece_is_read_and_refused_as_a_tokenizer_by_name) {
  const auto vocabulary = read_gguf_vocabulary(sentence_piece());
  BOOST_TEST_REQUIRE(vocabulary.has_value(), (vocabulary ? "" : vocabulary.error().message));
  BOOST_TEST(vocabulary->tokens.size() == 262U);
  BOOST_TEST((vocabulary->types[3] == gguf_token_type::byte && vocabulary->begin == 1 && vocabulary->add_begin == true));
  refused(to_bpe_model(*vocabulary, "s.gguf"), errc::unsupported,
          "s.gguf: tokenizer.ggml.model: \"llama\" (SentencePiece, joined by score)");

  const auto with = [](const std::function<void(gguf_file&)>& change, errc code, const std::string& part) {
    gguf_file file = sentence_piece();
    change(file);
    refused(read_gguf_vocabulary(file), code, part);
  };
  with([](auto& f) { f.metadata.erase("tokenizer.ggml.scores"); }, errc::malformed, "scores: must be there");
  with([](auto& f) { f.metadata.erase("tokenizer.ggml.token_type"); }, errc::malformed, "token_type: must be there");
  with([](auto& f) { held<std::vector<double>>(f, "scores")[5] = std::numeric_limits<double>::quiet_NaN(); }, errc::out_of_range,
       "token 5 has no finite");
  // A signed or odd pair of hex digits wrote past a buffer elsewhere.
  for (const char* name : {"<0x-1>", "<0xZZ>", "<0x+1>", "<0x1>", "<0x100>", "<0xff>", "0x00"})
    with([&](auto& f) { held<texts>(f, "tokens")[10] = name; }, errc::malformed, "token 10 is a byte, but is called");
  with([](auto& f) { set(f, "merges", {texts{"a b"}}); }, errc::malformed, "does not belong to a \"llama\" vocabulary");
}

BOOST_AUTO_TEST_CASE(a_small_file_has_a_tokenizer) {
  const auto file = *open_gguf(memory_source(isthmus::testing::small_gguf(), "small.gguf"));
  const tokenizer tokens(*to_bpe_model(*read_gguf_vocabulary(file), file.where));
  encoder words(tokens);
  std::vector<token_id> ids;
  words.encode("the<|endoftext|>", ids, specials::as_tokens);
  BOOST_TEST((ids == std::vector<token_id>{257, 258}));
}

BOOST_AUTO_TEST_SUITE_END()
