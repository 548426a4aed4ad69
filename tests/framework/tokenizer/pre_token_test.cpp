#include "framework/tokenizer/pre_token.hpp"

#include "framework/core/rng.hpp"

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

using namespace isthmus;

namespace {
std::vector<std::string> cut(std::string_view text, pre_token_pattern pattern) {
  std::vector<std::string> pieces;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = pre_token_end(text, at, pattern);
    pieces.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return pieces;
}
std::vector<std::string> cut(std::string_view text) {
  std::vector<std::string> pieces;
  for_each_pre_token(text, [&](std::string_view p) { pieces.emplace_back(p); });
  return pieces;
}
using pieces = std::vector<std::string>;
}  // namespace

BOOST_AUTO_TEST_SUITE(pre_token_test)

BOOST_AUTO_TEST_CASE(cuts_as_gpt2_does) {
  const auto same = boost::test_tools::per_element();
  BOOST_TEST(cut("Hello world") == (pieces{"Hello", " world"}), same);
  BOOST_TEST(cut("it's we'll 'tis") == (pieces{"it", "'s", " we", "'ll", " '", "tis"}), same);
  BOOST_TEST(cut("x2 = 34.5;") == (pieces{"x", "2", " =", " 34", ".", "5", ";"}), same);
  BOOST_TEST(cut("a  b") == (pieces{"a", " ", " b"}), same);
  BOOST_TEST(cut("a\n\n  b\n") == (pieces{"a", "\n\n ", " b", "\n"}), same);
  BOOST_TEST(cut("\t\tx  ") == (pieces{"\t", "\t", "x", "  "}), same);
  BOOST_TEST(cut("na\u00efve \u0663\u00bd") == (pieces{"na\u00efve", " \u0663\u00bd"}), same);
  BOOST_TEST(cut("e\u0301!") == (pieces{"e", "\u0301!"}), same);  // a combining mark is neither letter nor number
  BOOST_TEST(cut("a\u00a0\u3000b") == (pieces{"a", "\u00a0", "\u3000", "b"}), same);
}

BOOST_AUTO_TEST_CASE(cuts_as_llama3_does) {
  const auto same = boost::test_tools::per_element();
  const auto cut3 = [](std::string_view text) { return cut(text, pre_token_pattern::llama3); };
  BOOST_TEST(cut3("Hello world") == (pieces{"Hello", " world"}), same);
  BOOST_TEST(cut3("IT'S we'Ll 'tis") == (pieces{"IT", "'S", " we", "'Ll", " '", "tis"}), same);
  BOOST_TEST(cut3("x='\u017fa'sa") == (pieces{"x", "='", "\u017fa", "'s", "a"}), same);
  BOOST_TEST(cut3("12345 678") == (pieces{"123", "45", " ", "678"}), same);
  BOOST_TEST(cut3("(word) #x\u00a0y") == (pieces{"(word", ")", " #", "x", "\u00a0y"}), same);
  BOOST_TEST(cut3("a!\r\n\nb") == (pieces{"a", "!\r\n\n", "b"}), same);
  BOOST_TEST(cut3("a \n \n  b") == (pieces{"a", " \n \n", " ", " b"}), same);
  BOOST_TEST(cut3("a  ") == (pieces{"a", "  "}), same);
  BOOST_TEST(cut3("'") == (pieces{"'"}), same);
  BOOST_TEST(cut("a's", pre_token_pattern::gpt2) == cut("a's"), same);
}

BOOST_AUTO_TEST_CASE(any_bytes_have_pieces_that_join_to_them) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    rng random(seed, 0, 0, draw::fault);
    std::string text;
    for (std::uint64_t i = random.below(60); i > 0; --i) text.push_back(static_cast<char>(random.below(4) > 0 ? random.below(256) : ' '));
    std::string joined;
    for_each_pre_token(text, [&](std::string_view p) {
      BOOST_TEST_INFO("seed " << seed);
      BOOST_TEST(!p.empty());
      joined += p;
    });
    BOOST_TEST_INFO("seed " << seed);
    BOOST_TEST((joined == text));
    joined.clear();
    for (const auto& piece : cut(text, pre_token_pattern::llama3)) {
      BOOST_TEST_INFO("seed " << seed);
      BOOST_TEST(!piece.empty());
      joined += piece;
    }
    BOOST_TEST_INFO("seed " << seed);
    BOOST_TEST((joined == text));
  }
}

BOOST_AUTO_TEST_SUITE_END()
