#include "framework/tokenizer/tokenizer.hpp"

#include "framework/tokenizer/bpe_trainer.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <fstream>
#include <functional>

using namespace isthmus;

namespace {

struct small_tokenizer {
  bpe_model model;
  nlohmann::json file;
  small_tokenizer() {
    pre_token_counts counts;
    counts.add("low lower lowest slow slower slowest");
    bpe_options options;
    options.vocabulary = 262;
    model = *train_bpe(counts, options);
    file = nlohmann::json::parse(to_tokenizer_json(model));
  }
  /// The message of the error that a changed file gives.
  std::string refusal(const std::function<void(nlohmann::json&)>& change) const {
    nlohmann::json changed = file;
    change(changed);
    const auto read = parse_tokenizer_json(changed.dump(), "t/tokenizer.json");
    return read ? "accepted" : read.error().message;
  }
};

#define CHECK_REFUSED(message, ...)                                                      \
  do {                                                                                   \
    const std::string found = refusal([](nlohmann::json& f) { __VA_ARGS__; });           \
    BOOST_TEST(found.starts_with("t/tokenizer.json: "), found);                          \
    BOOST_TEST(found.find(message) != std::string::npos, found << " lacks " << message); \
  } while (false)

}  // namespace

BOOST_FIXTURE_TEST_SUITE(tokenizer_json_test, small_tokenizer)

BOOST_AUTO_TEST_CASE(what_is_written_is_read) {
  const auto read = parse_tokenizer_json(to_tokenizer_json(model), "t");
  BOOST_REQUIRE(read.has_value());
  BOOST_TEST((*read == model));
  BOOST_TEST((tokenizer(*read).hash() == tokenizer(model).hash()));
  bpe_model other = model;
  std::swap(other.merges[0], other.merges[1]);
  BOOST_TEST((tokenizer(other).hash() != tokenizer(model).hash()));
}

BOOST_AUTO_TEST_CASE(merges_may_be_pairs) {
  for (auto& m : file["model"]["merges"]) {
    const std::string text = m;
    m = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
  }
  BOOST_TEST((*parse_tokenizer_json(file.dump(), "t") == model));
}

BOOST_AUTO_TEST_CASE(ids_that_do_not_fit) {
  CHECK_REFUSED("model.vocab[\"low\"]: id -1 is not in [0", f["model"]["vocab"]["low"] = -1);
  CHECK_REFUSED("model.vocab[\"low\"]: an id is expected", f["model"]["vocab"]["low"] = 1.5);
  CHECK_REFUSED("model.vocab[\"low\"]: id 18446744073709551615 is not in", f["model"]["vocab"]["low"] = 0xffffffffffffffffU);
  CHECK_REFUSED("id 4000 leaves a hole", f["model"]["vocab"]["low"] = 4000);
  CHECK_REFUSED("id 7 is already that of", f["model"]["vocab"]["low"] = 7);
  CHECK_REFUSED("no token has id", f["model"]["vocab"].erase("low"); f["model"]["merges"].clear());
  CHECK_REFUSED("no token \"!\" for byte 33", f["model"]["vocab"]["zz"] = f["model"]["vocab"]["!"]; f["model"]["vocab"].erase("!"));
  CHECK_REFUSED("a token of 5000 bytes", f["model"]["vocab"][std::string(5000, 'x')] = 262);
  CHECK_REFUSED("stands for no byte", f["model"]["vocab"]["\u4e00"] = 262);
}

BOOST_AUTO_TEST_CASE(special_tokens_that_do_not_fit) {
  CHECK_REFUSED("added_tokens[0].id: \"<|endoftext|>\" has id 5 here and 0 in model.vocab", f["added_tokens"][0]["id"] = 5);
  CHECK_REFUSED("added_tokens[1].id: id 9000 is past the end", auto t = f["added_tokens"][0]; t["id"] = 9000; t["content"] = "<x>";
                f["added_tokens"].push_back(t));
  CHECK_REFUSED("added_tokens[1].id: id 0 was added before", f["added_tokens"].push_back(f["added_tokens"][0]));
  CHECK_REFUSED("added_tokens[0].lstrip: true is not supported", f["added_tokens"][0]["lstrip"] = true);
  CHECK_REFUSED("added_tokens[0].content", f["added_tokens"][0]["content"] = "");
  CHECK_REFUSED("added_tokens[0]: an object", f["added_tokens"][0] = 3);
}

BOOST_AUTO_TEST_CASE(merges_of_unknown_tokens) {
  CHECK_REFUSED("model.merges[0]: \"qq\" is not in model.vocab", f["model"]["merges"][0] = "qq l");
  CHECK_REFUSED("model.merges[1]: \"left right\"", f["model"]["merges"][1] = "l o w");
  CHECK_REFUSED("model.merges[1]: \"left right\"", f["model"]["merges"][1] = 7);
  CHECK_REFUSED("was merged before", f["model"]["merges"].push_back(f["model"]["merges"][0]));
  CHECK_REFUSED("model.merges: an array", f["model"]["merges"] = "l o");
}

BOOST_AUTO_TEST_CASE(what_we_do_not_do_alike_is_refused_not_skipped) {
  CHECK_REFUSED("normalizer: only null is supported, found NFC", f["normalizer"] = {{"type", "NFC"}});
  CHECK_REFUSED("pre_tokenizer: only ByteLevel is supported, found Whitespace", f["pre_tokenizer"] = {{"type", "Whitespace"}});
  CHECK_REFUSED("pre_tokenizer: only ByteLevel", f["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "(a+)+$"}}}});
  CHECK_REFUSED("pre_tokenizer.add_prefix_space", f["pre_tokenizer"]["add_prefix_space"] = true);
  CHECK_REFUSED("model.type: \"Unigram\" is not supported", f["model"]["type"] = "Unigram");
  CHECK_REFUSED("model.byte_fallback", f["model"]["byte_fallback"] = true);
  CHECK_REFUSED("model.dropout", f["model"]["dropout"] = 0.1);
  CHECK_REFUSED("post_processor: only", f["post_processor"] = {{"type", "RobertaProcessing"}});
  CHECK_REFUSED("decoder: only", f["decoder"] = nullptr);
  CHECK_REFUSED("model: an object", f["model"] = nlohmann::json::array());
  CHECK_REFUSED("model.vocab: an object", f["model"].erase("vocab"));
}

/// Prompts of folders as AutoTokenizer of Transformers gives them: tests/golden/make_text_golden.py.
BOOST_AUTO_TEST_CASE(what_is_put_before_a_text_is_that_of_transformers) {
  std::ifstream base("tests/golden/tokenizer/tokenizer.json"), golden("tests/golden/hf_texts.json");
  const nlohmann::json plain = nlohmann::json::parse(base);
  std::size_t begun = 0;
  for (const auto& c : nlohmann::json::parse(golden)) {
    nlohmann::json changed = plain;
    changed.update(c.at("tokenizer"));
    const auto read = parse_tokenizer_json(changed.dump(), "t");
    BOOST_TEST_REQUIRE(read.has_value(), (read ? "" : read.error().message));
    const tokenizer tokens(*read);
    const auto wanted = c.at("prompt_ids").get<std::vector<token_id>>();
    BOOST_TEST(encoder(tokens).prompt(c.at("prompt").get<std::string>()) == wanted, boost::test_tools::per_element());
    begun += c.at("tokenizer").empty() ? 0 : 1;
  }
  BOOST_TEST(begun == 2U);
}

BOOST_AUTO_TEST_CASE(templates_are_read_as_single_says_and_written_again) {
  const auto special = [](const char* name) -> nlohmann::json { return {{"SpecialToken", {{"id", name}, {"type_id", 0}}}}; };
  const nlohmann::json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  file["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", {special("begin"), special("<|endoftext|>"), text, special("<|endoftext|>")}},
                            {"pair", nullptr},
                            {"special_tokens", {{"begin", {{"ids", {7, 8}}}}, {"<|endoftext|>", {{"ids", {0}}}}}}};
  const auto read = parse_tokenizer_json(file.dump(), "t");
  BOOST_TEST_REQUIRE(read.has_value(), (read ? "" : read.error().message));
  BOOST_TEST((read->around == text_template{{7, 8, 0}, {0}}));
  BOOST_TEST((tokenizer(*read).hash() == tokenizer(model).hash()));  // the ids mean what they meant
  const auto written = nlohmann::json::parse(to_tokenizer_json(*read));
  BOOST_TEST((*parse_tokenizer_json(written.dump(), "t") == *read));
  BOOST_TEST(written.at("post_processor").at("processors").at(1).at("special_tokens").at("<|endoftext|>").at("ids").at(0) == 0);
}

BOOST_AUTO_TEST_CASE(templates_that_cannot_be_honoured_are_refused) {
  const nlohmann::json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, other = {{"Sequence", {{"id", "B"}, {"type_id", 0}}}};
  const auto refused = [&](const std::string& part, const nlohmann::json& single, const nlohmann::json& ids = {0}) {
    const nlohmann::json post{{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", {{"x", {{"ids", ids}}}}}};
    const std::string found = refusal([&](auto& f) { f["post_processor"] = post; });
    BOOST_TEST(found.starts_with("t/tokenizer.json: post_processor." + part), found << " lacks " << part);
  };
  const nlohmann::json x = {{"SpecialToken", {{"id", "x"}}}}, y = {{"SpecialToken", {{"id", "y"}}}};
  refused("single: an array", "x");
  refused("single: holds no sequence A", nlohmann::json::array({x}));
  refused("single: ", {text, text});
  refused("single: ", nlohmann::json::array({other}));
  refused("special_tokens: no ids for \"y\"", {y, text});
  refused("special_tokens: id 262 of 262 tokens", {x, text}, {262});
  refused("special_tokens: id -1 of 262 tokens", {x, text}, {-1});
  refused("special_tokens: is \"x\", expected an id", {x, text}, {"x"});
  const nlohmann::json once{{"type", "TemplateProcessing"}, {"single", {text}}};
  const auto sequence = [&](const nlohmann::json& steps) {
    return refusal([&](auto& f) { f["post_processor"] = {{"type", "Sequence"}, {"processors", steps}}; });
  };
  BOOST_TEST(sequence(nlohmann::json::array({once})) == "accepted");
  BOOST_TEST(sequence({once, once}).find("post_processor.processors[1]: a second TemplateProcessing") != std::string::npos);
  BOOST_TEST(sequence(nlohmann::json::array({nlohmann::json{{"type", "BertProcessing"}}})).find("post_processor.processors[0]: only") !=
             std::string::npos);
  BOOST_TEST(sequence("x").find("post_processor.processors: an array") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(only_llama3s_pattern_may_split) {
  model.pattern = pre_token_pattern::llama3;
  file = nlohmann::json::parse(to_tokenizer_json(model));
  BOOST_TEST((*parse_tokenizer_json(file.dump(), "t") == model));
  const auto step = [](nlohmann::json& f, int i) -> nlohmann::json& {
    return f["pre_tokenizer"]["pretokenizers"][static_cast<std::size_t>(i)];
  };
  const auto refused = [&](const std::string& part, const std::function<void(nlohmann::json&)>& change) {
    const std::string found = refusal(change);
    BOOST_TEST(found.find(part) != std::string::npos, found << " lacks " << part);
  };
  refused("pre_tokenizer.pretokenizers[0].pattern: ", [&](auto& f) { step(f, 0)["pattern"]["Regex"] = "(a+)+$"; });
  refused("pre_tokenizer.pretokenizers[0].pattern: ", [&](auto& f) { step(f, 0)["pattern"] = {{"String", " "}}; });
  refused("pre_tokenizer.pretokenizers[0].behavior: ", [&](auto& f) { step(f, 0)["behavior"] = "Removed"; });
  refused("pre_tokenizer.pretokenizers[0].invert: ", [&](auto& f) { step(f, 0)["invert"] = true; });
  refused("pre_tokenizer.pretokenizers[1].use_regex: ", [&](auto& f) { step(f, 1)["use_regex"] = true; });
  refused("pre_tokenizer.pretokenizers[1].use_regex: ", [&](auto& f) { step(f, 1).erase("use_regex"); });
  refused("pre_tokenizer.pretokenizers[1].add_prefix_space: ", [&](auto& f) { step(f, 1)["add_prefix_space"] = true; });
  refused("of sequences only [Split, ByteLevel]", [&](auto& f) { std::swap(step(f, 0), step(f, 1)); });
  refused("of sequences only [Split, ByteLevel]", [&](auto& f) { f["pre_tokenizer"]["pretokenizers"].erase(1); });
  refused("of sequences only [Split, ByteLevel]", [&](auto& f) { f["pre_tokenizer"]["pretokenizers"] = 7; });
  refused("model.ignore_merges: true or false", [&](auto& f) { f["model"]["ignore_merges"] = 1; });
}

BOOST_AUTO_TEST_CASE(text_that_is_not_json_is_told_by_line_and_column) {
  const auto message = [](const std::string& text) {
    const auto read = parse_tokenizer_json(text, "t.json");
    return read ? "accepted" : read.error().message;
  };
  BOOST_TEST(message("{\n  \"a\": 1,\n  oops\n}").starts_with("t.json:3:3: not JSON"), message("{\n  \"a\": 1,\n  oops\n}"));
  BOOST_TEST(message("{\"a\": \"\\ud800\"}").find("not JSON") != std::string::npos);  // a lone surrogate
  BOOST_TEST(message("{\n\"a\": \"\xff\"}").starts_with("t.json:2:7: not UTF-8"));
  BOOST_TEST(message("{\"a\": 1, \"a\": 2}").find("\"a\" stands twice") != std::string::npos);
  BOOST_TEST(message(std::string(100'000, '[')).find("nested deeper") != std::string::npos);
  BOOST_TEST(message("").find("not JSON") != std::string::npos);
  BOOST_TEST(message("[]").find("an object is expected") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_torn_file_is_an_error_at_every_length) {
  const std::string text = to_tokenizer_json(model);
  for (std::size_t size = 0; size + 2 < text.size(); size += 97) BOOST_TEST(!parse_tokenizer_json(text.substr(0, size), "t").has_value());
}

BOOST_AUTO_TEST_CASE(the_models_vocabulary_must_be_the_same) {
  BOOST_TEST(check_vocabulary(262, 262, "t").has_value());
  const auto refused = check_vocabulary(262, 2048, "t");
  BOOST_TEST((refused.error().code == errc::out_of_range));
  BOOST_TEST(refused.error().message.starts_with("t: a vocabulary of 262 tokens, but the model has 2048"));
  BOOST_TEST(refused.error().message.ends_with("set data.vocabulary = 262"));  // a key that there is
}

BOOST_AUTO_TEST_SUITE_END()
