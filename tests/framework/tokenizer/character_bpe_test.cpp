#include "framework/tokenizer/character_bpe.hpp"
#include "framework/tokenizer/piece_tokenizer.hpp"

#include <boost/test/unit_test.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <functional>
#include <iterator>
#include <limits>

using namespace isthmus;
using nlohmann::json;

BOOST_AUTO_TEST_SUITE(characters)

namespace {

/// What tests/golden/make_character_golden.py wrote.
json golden() { return json::parse(std::ifstream("tests/golden/tokenizer/characters.json")); }

json file_of(const json& all, const json& variant) {
  json file = all.at("file");
  file.update(variant.at("parts"));
  return file;
}

character_bpe made(const json& file) {
  auto model = parse_character_bpe_json(file.dump(), "t.json");
  BOOST_TEST_REQUIRE(model.has_value(), (model ? "" : model.error().message));
  auto out = character_bpe::make(std::move(*model), "t.json");
  BOOST_TEST_REQUIRE(out.has_value(), (out ? "" : out.error().message));
  return std::move(*out);
}

}  // namespace

BOOST_AUTO_TEST_CASE(ids_are_those_of_tokenizers) {
  const json all = golden();
  for (const json& variant : all.at("variants")) {
    const json file = file_of(all, variant);
    BOOST_TEST(is_character_bpe_json(file.dump()));
    const auto tokens = made(file);
    const bool stripped = file.at("decoder").at("decoders").size() == 4U;
    for (const json& t : variant.at("texts")) {
      BOOST_TEST_CONTEXT(variant.at("name") << ": " << t.at("text")) {
        const std::string text = t.at("text");
        const auto ids = tokens.encode(text);
        BOOST_TEST(ids == t.at("ids").get<std::vector<token_id>>(), boost::test_tools::per_element());
        BOOST_TEST(tokens.encode(text, specials::as_tokens) == t.at("with_names").get<std::vector<token_id>>(),
                   boost::test_tools::per_element());
        const std::string decoded = tokens.decode(ids);
        BOOST_TEST(decoded.substr(stripped && decoded.starts_with(' ') ? 1 : 0) == t.at("decoded").get<std::string>());
        auto prompt = tokens.prompt(text);
        prompt.insert(prompt.end(), tokens.model().around.after.begin(), tokens.model().around.after.end());
        BOOST_TEST(prompt == ids, boost::test_tools::per_element());
      }
    }
  }
}

/// As tokenizers does: what is cut out of a text is put back by the same decoder as any piece.
BOOST_AUTO_TEST_CASE(added_tokens_are_decoded_as_others) {
  const json all = golden();
  json file = file_of(all, all.at("variants").at(0));
  const int id = file.at("model").at("vocab").at("▁▁");
  file["added_tokens"].push_back({{"id", id},
                                  {"content", "▁▁"},
                                  {"single_word", false},
                                  {"lstrip", false},
                                  {"rstrip", false},
                                  {"normalized", false},
                                  {"special", false}});
  const auto tokens = made(file);
  BOOST_TEST(tokens.decode(std::vector<token_id>{id}) == "  ");
}

BOOST_AUTO_TEST_CASE(ids_that_are_none_are_decoded_as_nothing) {
  const json all = golden();
  const auto tokens = made(file_of(all, all.at("variants").at(0)));
  const auto ids = tokens.encode("the tree");
  for (const token_id none : {token_id{-1}, std::numeric_limits<token_id>::min(), static_cast<token_id>(tokens.vocabulary()),
                              std::numeric_limits<token_id>::max()}) {
    auto with = ids;
    with.insert(with.begin() + 1, none);
    with.push_back(none);
    BOOST_TEST(tokens.decode(with) == tokens.decode(ids));
  }
}

/// Of two merges with one result the better one goes first, also where it is further right: no order of pieces could say that.
BOOST_AUTO_TEST_CASE(merges_go_by_rank_and_then_from_the_left) {
  character_bpe_model model;
  for (int byte = 0; byte < 256; ++byte) model.tokens.push_back(fmt::format("<0x{:02X}>", byte));
  for (const char* token : {"a", "b", "ab", "ba", "aba"}) model.tokens.emplace_back(token);
  model.words.assign(model.tokens.size(), true);
  constexpr token_id a = 256, b = 257, ab = 258, ba = 259, aba = 260;
  model.merges = {{a, b, ab}, {ab, a, aba}};
  const auto encoded = [&](const char* text) {
    const auto tokens = character_bpe::make(model, "t");
    BOOST_TEST_REQUIRE(tokens.has_value());
    return tokens->encode(text);
  };
  using ids = std::vector<token_id>;
  BOOST_TEST(encoded("aababa") == ids({a, ab, aba}), boost::test_tools::per_element());
  model.merges = {{b, a, ba}, {a, ba, aba}, {a, b, ab}};
  BOOST_TEST(encoded("ababab") == ids({aba, ba, b}), boost::test_tools::per_element());
  BOOST_TEST(encoded("\xff") == ids({255}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(pieces_that_are_written_are_read_back) {
  piece_model pieces{{"<unk>", "<s>", "</s>"}, {0, 0, 0}, {piece_kind::unknown, piece_kind::control, piece_kind::control}};
  const auto add = [&](std::string piece, float score, piece_kind kind) {
    pieces.pieces.push_back(std::move(piece));
    pieces.scores.push_back(score);
    pieces.kinds.push_back(kind);
  };
  for (int byte = 0; byte < 256; ++byte) add(fmt::format("<0x{:02X}>", byte), 0, piece_kind::byte);
  for (const char* piece : {"the", "th", "\u2581the", "\u2581", "t", "h", "e"})
    add(piece, -static_cast<float>(pieces.pieces.size()), piece_kind::normal);
  const auto tokens = made(json::parse(to_tokenizer_json(pieces, true, {{1}, {}})));
  auto direct = piece_tokenizer::make(pieces, "t");
  BOOST_TEST_REQUIRE(direct.has_value());
  for (const std::string text : {"the", "the then", "héé"}) {
    std::vector<token_id> wanted{1};
    direct->encode(" " + text, wanted);
    BOOST_TEST(tokens.encode(text) == wanted, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(what_is_not_done_the_same_way_is_refused_by_its_path) {
  const json all = golden(), llama = file_of(all, all.at("variants").at(0)), mistral = file_of(all, all.at("variants").at(1));
  const auto refused = [](json file, const std::function<void(json&)>& change, const char* words) {
    change(file);
    auto model = parse_character_bpe_json(file.dump(), "t.json");
    std::string message = model ? "accepted" : model.error().message;
    if (model)
      if (const auto made = character_bpe::make(std::move(*model), "t.json"); !made) message = made.error().message;
    BOOST_TEST(message.starts_with(std::string("t.json: ") + words), message);
    BOOST_TEST(message.size() < 400U);
  };
  refused(
      llama,
      [](json& f) {
        f["normalizer"] = {{"type", "NFKC"}};
      },
      "normalizer: {\"type\":\"NFKC\"} is not supported");
  refused(
      llama, [](json& f) { f["normalizer"]["normalizers"][0]["prepend"] = "x"; }, "normalizer: ");
  refused(
      llama,
      [](json& f) {
        f["pre_tokenizer"] = {{"type", "Whitespace"}};
      },
      "pre_tokenizer: beside a normalizer");
  refused(
      llama, [](json& f) { f["normalizer"] = nullptr; }, "pre_tokenizer: null is not supported, only Metaspace");
  refused(
      llama, [](json& f) { f["added_tokens"][1]["normalized"] = true; }, "added_tokens[1].normalized: true");
  refused(
      llama, [](json& f) { f["added_tokens"][1]["lstrip"] = true; }, "added_tokens[1].lstrip: true");
  refused(
      llama, [](json& f) { f["added_tokens"][1]["id"] = 2; }, "added_tokens[1].id: \"<s>\" has id 2 here and 1 before");
  refused(
      llama, [](json& f) { f["added_tokens"][3]["id"] = 9; }, "added_tokens[3].id: id 9 is already that of");
  refused(
      llama, [](json& f) { f["added_tokens"].push_back(f["added_tokens"][3]); }, "added_tokens[6].id: id 522 was added before");
  refused(
      llama, [](json& f) { f["added_tokens"][3]["id"] = -1; }, "added_tokens[3].id: is -1, expected an id from 0 to 4194303");
  refused(
      llama, [](json& f) { f["model"]["vocab"]["the"] = -7; }, "model.vocab[\"the\"]: is -7, expected an id from 0 to 4194303");
  refused(
      llama, [](json& f) { f["post_processor"]["special_tokens"]["<s>"]["ids"][0] = -1; },
      "post_processor.special_tokens: id -1 of 525 tokens");
  refused(
      llama, [](json& f) { f["added_tokens"][3]["id"] = 528; }, "added_tokens[3].id: id 528 leaves a hole: there are 528 tokens");
  refused(  // inside of what vocabulary and added tokens have together, but three of these stand in both
      llama, [](json& f) { f["added_tokens"][5]["id"] = 527; }, "model.vocab: no token has id 524 of 525");
  refused(
      llama, [](json& f) { f["model"]["vocab"]["the"] = 4'000'000; }, "model.vocab[\"the\"]: id 4000000 leaves a hole");
  refused(
      llama, [](json& f) { f["model"]["vocab"].erase("<0x0A>"); }, "model.vocab: no token has id");
  refused(
      llama, [](json& f) { f["model"]["dropout"] = 0.1; }, "model.dropout");
  refused(
      llama, [](json& f) { f["model"]["ignore_merges"] = true; }, "model.ignore_merges: true");
  refused(
      llama, [](json& f) { f["model"]["type"] = "Unigram"; }, "model.type: \"Unigram\" is not supported, only \"BPE\"");
  refused(
      llama, [](json& f) { f["model"]["merges"][0] = "the x7y"; }, "model.merges[0]: \"the x7y\": \"x7y\" is not in model.vocab");
  refused(
      llama, [](json& f) { f["model"]["merges"].push_back(f["model"]["merges"][0]); }, "model.merges[");
  refused(
      llama, [](json& f) { f["decoder"]["decoders"].erase(1); }, "decoder: ");
  refused(
      llama, [](json& f) { f["post_processor"]["single"].push_back(f["post_processor"]["single"][1]); }, "post_processor.single: ");
  refused(
      llama, [](json& f) { f["post_processor"]["special_tokens"].erase("<s>"); }, "post_processor.special_tokens: no ids for \"<s>\"");
  refused(
      llama, [](json& f) { f["post_processor"]["special_tokens"]["<s>"]["ids"][0] = 9999; }, "post_processor.special_tokens: id 9999");
  refused(
      llama, [](json& f) { f["post_processor"]["special_tokens"]["<s>"]["ids"] = std::vector<int>(20000, 1); },
      "post_processor.special_tokens: more than 16384 ids");
  refused(
      mistral, [](json& f) { f["pre_tokenizer"]["replacement"] = "_"; }, "pre_tokenizer.replacement: \"_\"");
  refused(
      mistral, [](json& f) { f["pre_tokenizer"]["prepend_scheme"] = "last"; }, "pre_tokenizer.prepend_scheme: \"last\"");
  refused(
      mistral,
      [](json& f) {
        f["padding"] = {{"direction", "Right"}};
      },
      "padding: only null");
  BOOST_TEST(!is_character_bpe_json("{"));
  BOOST_TEST(!is_character_bpe_json(std::string(json{{"model", {{"type", "BPE"}, {"byte_fallback", false}}}}.dump())));
  const std::string text = llama.dump();
  for (std::size_t size = 0; size < text.size(); size += 97) BOOST_TEST(!parse_character_bpe_json(text.substr(0, size), "t").has_value());
}

BOOST_AUTO_TEST_CASE(long_texts_are_no_burden) {
  const json all = golden();
  const auto tokens = made(file_of(all, all.at("variants").at(0)));
  const std::string text(300'000, 'a');
  BOOST_TEST(tokens.decode(tokens.encode(text)) == " " + text);
}

BOOST_AUTO_TEST_SUITE_END()
