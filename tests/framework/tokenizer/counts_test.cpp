#include "framework/tokenizer/counts.hpp"

#include "framework/core/rng.hpp"

#include <boost/test/unit_test.hpp>

using namespace isthmus;

namespace {
pre_token_counts of(std::string_view text) {
  pre_token_counts counts;
  counts.add(text);
  return counts;
}
}  // namespace

BOOST_AUTO_TEST_SUITE(counts_test)

BOOST_AUTO_TEST_CASE(merging_tables_counts_the_joined_texts) {
  auto a = of("to be or not to be"), b = of("not to worry");
  pre_token_counts ab = a, ba = b;
  ab.merge(b);
  ba.merge(a);
  BOOST_TEST((ab.sorted() == ba.sorted()));
  BOOST_TEST(ab.count(" to") == 2U);
  BOOST_TEST(ab.count("to") == 1U);
  BOOST_TEST(ab.count(" not") == 1U);
  BOOST_TEST(ab.total() == a.total() + b.total());
}

BOOST_AUTO_TEST_CASE(rare_and_long_strings_stay_at_home) {
  auto counts = of("pass word pass word pass secret " + std::string(100, 'x') + " " + std::string(100, 'x'));
  counts.drop_below(2);
  BOOST_TEST(counts.count(" word") == 2U);
  BOOST_TEST(counts.count(" secret") == 0U);
  for (const auto& e : counts.sorted()) BOOST_TEST(e.text.size() <= 64U);
}

BOOST_AUTO_TEST_CASE(bytes_come_back_as_the_same_table) {
  const auto counts = of("a b c a b a \u00e9\n");
  const auto back = pre_token_counts::parse(counts.serialize(), "site 1");
  BOOST_REQUIRE(back.has_value());
  BOOST_TEST((back->sorted() == counts.sorted()));
  BOOST_TEST(pre_token_counts::parse(pre_token_counts().serialize(), "none")->distinct() == 0U);
}

BOOST_AUTO_TEST_CASE(damaged_bytes_are_refused_by_name_and_position) {
  const auto good = of("the cat and the hat and the bat").serialize();
  for (std::size_t i = 0; i < good.size(); ++i) {
    auto bad = good;
    bad[i] ^= std::byte{0x41};
    const auto back = pre_token_counts::parse(bad, "site 2");
    BOOST_REQUIRE(!back.has_value());
    BOOST_TEST(back.error().message.starts_with("site 2: byte "));
    BOOST_TEST(!pre_token_counts::parse(std::span(good).first(i), "site 2").has_value());
  }
}

BOOST_AUTO_TEST_SUITE_END()
