#include "framework/tokenizer/piece_tokenizer.hpp"

#include <boost/test/unit_test.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

using namespace isthmus;

BOOST_AUTO_TEST_SUITE(pieces)

namespace {

/// Ids 0 to 2 are <unk>, <s> and </s>, 3 to 258 the bytes, then the pieces given with their scores.
piece_model model_of(const std::vector<std::pair<std::string, float>>& pieces) {
  piece_model out{{"<unk>", "<s>", "</s>"}, {0, 0, 0}, {piece_kind::unknown, piece_kind::control, piece_kind::control}};
  const auto add = [&](std::string piece, float score, piece_kind kind) {
    out.pieces.push_back(std::move(piece));
    out.scores.push_back(score);
    out.kinds.push_back(kind);
  };
  for (int byte = 0; byte < 256; ++byte) add(fmt::format("<0x{:02X}>", byte), 0, piece_kind::byte);
  for (const auto& [piece, score] : pieces) add(piece, score, piece_kind::normal);
  return out;
}

piece_tokenizer made(const piece_model& model) {
  auto out = piece_tokenizer::make(model, "test");
  BOOST_TEST_REQUIRE(out.has_value(), (out ? "" : out.error().message));
  return std::move(*out);
}

std::vector<std::string> cut(const piece_tokenizer& tokens, std::string_view text) {
  std::vector<token_id> ids;
  tokens.encode(text, ids);
  std::vector<std::string> out;
  for (const token_id id : ids) out.emplace_back(tokens.bytes(id));
  return out;
}

using texts = std::vector<std::string>;

}  // namespace

BOOST_AUTO_TEST_CASE(the_best_join_goes_first_and_of_equal_ones_the_leftmost) {
  const auto tokens =
      made(model_of({{"a", -9}, {"b", -9}, {"c", -9}, {"ab", -2}, {"bc", -1}, {"aa", -3}, {"\u2581", -9}, {"\u2581a", -0.5F}}));
  BOOST_TEST(cut(tokens, "abc") == texts({"a", "bc"}), boost::test_tools::per_element());
  BOOST_TEST(cut(tokens, "aaa") == texts({"aa", "a"}), boost::test_tools::per_element());
  BOOST_TEST(cut(tokens, " ab") == texts({" a", "b"}), boost::test_tools::per_element());
  BOOST_TEST(cut(tokens, "").empty());
}

BOOST_AUTO_TEST_CASE(what_is_no_piece_becomes_bytes_and_names_of_others_are_text) {
  const auto tokens = made(model_of({{"<", -1}, {"s", -1}, {"<s", -1}, {">", -1}}));
  BOOST_TEST(cut(tokens, "\xc3\xa9\xff") == texts({"\xc3", "\xa9", "\xff"}), boost::test_tools::per_element());
  BOOST_TEST(cut(tokens, "<s>") == texts({"<s", ">"}), boost::test_tools::per_element());
  BOOST_TEST(tokens.bytes(1).empty());
  BOOST_TEST(tokens.bytes(3 + 0x41) == "A");
}

BOOST_AUTO_TEST_CASE(unsound_vocabularies_are_refused) {
  auto lacks = model_of({});
  lacks.kinds[3 + 0x0a] = piece_kind::unused;
  BOOST_TEST(piece_tokenizer::make(lacks, "here").error().message.find("here: no piece <0x0A>") == 0U);
  BOOST_TEST(piece_tokenizer::make(model_of({{"a", 0}, {"a", 0}}), "here").error().message.find("stands twice: \"a\"") !=
             std::string::npos);
}

BOOST_AUTO_TEST_CASE(tokenizer_json_orders_joins_by_score) {
  const auto json =
      nlohmann::json::parse(to_tokenizer_json(model_of({{"a", -9}, {"b", -9}, {"ab", -2}, {"aab", -1}, {"aa", -3}}), true, {{1}, {2}}));
  BOOST_TEST(json.at("model").at("merges") == nlohmann::json::parse(R"([["a", "ab"], ["aa", "b"], ["a", "b"], ["a", "a"]])"));
  BOOST_TEST(json.at("model").at("unk_token") == "<unk>");
  BOOST_TEST(json.at("post_processor").at("special_tokens").at("<s>").at("ids").at(0) == 1);
  BOOST_TEST(json.at("post_processor").at("single").size() == 3U);
  BOOST_TEST(json.at("post_processor").at("single").at(2).at("SpecialToken").at("id") == "</s>");
  BOOST_TEST(json.at("added_tokens").size() == 3U);
}

BOOST_AUTO_TEST_SUITE_END()
