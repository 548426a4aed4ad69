#include "framework/data/prepare.hpp"
#include "framework/tokenizer/bpe_trainer.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

using namespace isthmus;

namespace {

std::string repeated(const std::string& text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

struct smallest_tokenizer {
  nlohmann::json file;
  smallest_tokenizer() {
    pre_token_counts counts;
    counts.add("low lower lowest");
    bpe_options options;
    options.vocabulary = 259;
    file = nlohmann::json::parse(to_tokenizer_json(*train_bpe(counts, options)));
  }
  std::size_t size() const { return file["model"]["vocab"].size(); }
  nlohmann::json special(std::size_t id, const std::string& content) const {
    auto entry = file["added_tokens"][0];
    entry["id"] = id;
    entry["content"] = content;
    return entry;
  }
  /// The changed file must be refused in words that name it and the place, and that stay short.
  void refused(const std::string& wanted, const std::function<void(nlohmann::json&)>& change) const {
    auto changed = file;
    change(changed);
    const auto read = parse_tokenizer_json(changed.dump(), "t/tokenizer.json");
    const auto message = read ? "accepted" : read.error().message;
    BOOST_TEST(message.starts_with("t/tokenizer.json: " + wanted), message << " lacks " << wanted);
    BOOST_TEST(message.size() < 500U);
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(hostile_tokenizer, smallest_tokenizer)

BOOST_AUTO_TEST_CASE(tokens_of_ten_megabytes) {
  const std::string huge(10 << 20, 'x');
  refused("model.vocab[\"xxxx", [&](auto& f) { f["model"]["vocab"][huge] = size(); });
  refused("added_tokens[1].content: a token of 10485760 bytes", [&](auto& f) { f["added_tokens"].push_back(special(size(), huge)); });
  refused("model.merges[0]: \"xxxx", [&](auto& f) { f["model"]["merges"][0] = huge + " l"; });
  refused("pre_tokenizer: only ByteLevel is supported, found xxxx", [&](auto& f) { f["pre_tokenizer"]["type"] = huge; });
  refused("model.type: \"xxxx", [&](auto& f) { f["model"]["type"] = huge; });
}

BOOST_AUTO_TEST_CASE(names_are_cut_between_or_inside_characters) {
  for (const std::size_t shift : {0U, 1U, 2U}) {
    const std::string name = std::string(shift, 'x') + repeated("\u4e00", 2000);
    refused("model.vocab[\"", [&](auto& f) { f["model"]["vocab"][name] = size(); });
    refused("model.merges[0]: \"", [&](auto& f) { f["model"]["merges"][0] = name + " l"; });
    refused("model.dropout: only null", [&](auto& f) { f["model"]["dropout"] = name; });
    refused("normalizer: only null", [&](auto& f) { f["normalizer"] = {{"type", name}}; });
    const auto twice = parse_tokenizer_json("{\"" + name + "\": 1, \"" + name + "\": 2}", "t");
    BOOST_TEST(twice.error().message.find("stands twice") != std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(a_signed_byte_token_is_no_byte) {
  for (const char* name : {"<0x-1>", "<0x+A>", "<0xFF>", "<0x100>"}) {
    refused("model.byte_fallback: true is not supported", [&](auto& f) {
      f["model"]["vocab"][name] = size();
      f["model"]["byte_fallback"] = true;
    });
    auto plain = file;
    plain["model"]["vocab"][name] = size();
    const auto read = parse_tokenizer_json(plain.dump(), "t");
    BOOST_REQUIRE(read.has_value());
    BOOST_TEST(tokenizer(*read).bytes(static_cast<token_id>(size())) == name);  // its six letters
  }
}

BOOST_AUTO_TEST_CASE(special_tokens_past_the_end_or_twice) {
  refused("added_tokens[1].id: id " + std::to_string(size() + 1) + " is past the end",
          [&](auto& f) { f["added_tokens"].push_back(special(size() + 1, "<x>")); });
  refused("added_tokens[1].id: id 4294967295 is not in", [&](auto& f) { f["added_tokens"].push_back(special(0xffffffffU, "<x>")); });
  refused("added_tokens[1].id: id 1 is already that of", [&](auto& f) { f["added_tokens"].push_back(special(1, "<x>")); });
  refused("added_tokens[2].id: \"<x>\" has id", [&](auto& f) {
    f["added_tokens"].push_back(special(size(), "<x>"));
    f["added_tokens"].push_back(special(size() + 1, "<x>"));
  });
  refused("added_tokens[0].id: an id is expected", [&](auto& f) { f["added_tokens"][0]["id"] = nullptr; });
  refused("added_tokens: an array", [&](auto& f) { f["added_tokens"] = {{"id", 0}}; });
}

BOOST_AUTO_TEST_CASE(tables_that_are_shorter_than_the_vocabulary) {
  refused("model.type: \"Unigram\"", [](auto& f) {
    f["model"]["type"] = "Unigram";
    f["model"]["vocab"] = {{"a", 0.0}, {"b"}};
  });
  refused("model.vocab: an object of token: id", [](auto& f) { f["model"]["vocab"] = {{"a", 0.0}, {"b"}}; });
  refused("model.merges: an array", [](auto& f) { f["model"].erase("merges"); });
  refused("model.merges[0]: ", [](auto& f) { f["model"]["merges"][0] = {"l"}; });
}

BOOST_AUTO_TEST_CASE(sequences_inside_of_sequences_are_not_followed) {
  nlohmann::json part = {{"type", "ByteLevel"}};
  for (int i = 0; i < 5; ++i) part = {{"type", "Sequence"}, {"processors", {part}}};
  refused(
      "post_processor.processors[0]: only null, ByteLevel, TemplateProcessing and a Sequence of these are supported, found \"Sequence\"",
      [&](auto& f) { f["post_processor"] = part; });
  for (int i = 0; i < 1000; ++i) part = {{"type", "Sequence"}, {"processors", {part}}};
  refused("nested deeper than 16 levels", [&](auto& f) { f["post_processor"] = part; });
}

BOOST_AUTO_TEST_CASE(files_that_are_no_tokenizer) {
  const std::string path = (std::filesystem::temp_directory_path() / ("isthmus-tokenizer-" + std::to_string(getpid()))).string();
  {
    const auto disk = *open_disk(path);
    const auto code = [&](const std::string& name) {
      const auto read = read_tokenizer(*disk, name);
      BOOST_TEST(!read.has_value());
      BOOST_TEST((read || read.error().message.find(name) != std::string::npos));
      return read ? errc::ok : read.error().code;
    };
    BOOST_TEST((code("missing.json") == errc::not_found));
    std::ofstream(path + "/huge.json") << "{";
    std::filesystem::resize_file(path + "/huge.json", 1 << 30);
    BOOST_TEST((code("huge.json") == errc::too_large));
    std::filesystem::resize_file(path + "/huge.json", 1 << 20);  // zeros behind the brace
    BOOST_TEST((code("huge.json") == errc::malformed));
    std::filesystem::create_directory(path + "/folder.json");
    BOOST_TEST((code("folder.json") == errc::malformed));
    std::filesystem::create_symlink("huge.json", path + "/link.json");
    BOOST_TEST((code("link.json") == errc::malformed));
  }
  std::filesystem::remove_all(path);
}

BOOST_AUTO_TEST_SUITE_END()
