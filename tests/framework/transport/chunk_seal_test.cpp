#include "framework/transport/chunk_seal.hpp"
#include "framework/core/error.hpp"
#include "tests/framework/transport/keys.hpp"
#include "tests/framework/transport/probe.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <set>
#include <string>

using namespace isthmus;
using namespace isthmus::testing;

namespace {

using bytes = std::vector<std::byte>;
constexpr std::size_t data_bytes = 1000, header_bytes = 42;

std::string text_of(const bytes& b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }

struct chunk {
  bytes header, data;
};

chunk sealed(chunk_sealer& sealer) {
  chunk out{sealer.header(patterned(header_bytes, 1)->bytes()), bytes(data_bytes + chunk_sealer::tag_bytes)};
  sealer.data(out.header, patterned(data_bytes, 2)->bytes(), out.data);
  return out;
}

bool opens(chunk_opener& opener, const chunk& c) {
  const auto header = opener.header(c.header);
  if (!header) return false;
  BOOST_TEST_REQUIRE(std::ranges::equal(*header, patterned(header_bytes, 1)->bytes()));
  bytes plain(data_bytes, std::byte{0});
  const bool whole = opener.data(c.header, c.data, plain.data());
  if (whole)
    BOOST_TEST_REQUIRE(std::ranges::equal(plain, patterned(data_bytes, 2)->bytes()));
  else
    BOOST_TEST_REQUIRE((plain == bytes(data_bytes)));  // not a byte of what did not open
  return whole;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(chunk_seals)

BOOST_AUTO_TEST_CASE(chunks_open_in_any_order_and_no_two_are_alike) {
  chunk_sealer sealer(seeded_secret(1));
  chunk_opener opener(seeded_secret(1));
  std::vector<chunk> all;
  std::set<std::string> distinct;
  for (int i = 0; i < 50; ++i) {
    all.push_back(sealed(sealer));
    distinct.insert(text_of(all.back().data));
    distinct.insert(text_of(all.back().header));
  }
  BOOST_TEST(distinct.size() == 100U);
  std::reverse(all.begin(), all.end());
  for (const auto& c : all) BOOST_TEST(opens(opener, c));
}

BOOST_AUTO_TEST_CASE(a_change_of_any_bit_of_header_or_data_is_noticed) {
  chunk_sealer sealer(seeded_secret(1));
  chunk_opener opener(seeded_secret(1));
  const auto whole = sealed(sealer);
  BOOST_TEST(opens(opener, whole));
  for (std::size_t bit = 0; bit < 8 * whole.header.size(); ++bit) {
    auto changed = whole;
    changed.header[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    BOOST_TEST_REQUIRE(!opens(opener, changed));
  }
  for (std::size_t bit = 0; bit < 8 * whole.data.size(); ++bit) {
    auto changed = whole;
    changed.data[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    BOOST_TEST_REQUIRE(!opens(opener, changed));
  }
}

BOOST_AUTO_TEST_CASE(parts_of_different_chunks_links_and_lengths_do_not_fit) {
  chunk_sealer sealer(seeded_secret(1));
  chunk_opener opener(seeded_secret(1)), other(seeded_secret(2));
  const auto a = sealed(sealer), b = sealed(sealer);
  BOOST_TEST(!opens(opener, {a.header, b.data}));
  BOOST_TEST(!opens(other, a));  // of another link, or sent back to its sender
  for (std::size_t n = 0; n < a.header.size(); ++n) BOOST_TEST_REQUIRE(!opener.header(std::span(a.header).first(n)));
  bytes plain(data_bytes);
  for (std::size_t n = 0; n < a.data.size(); n += 7) BOOST_TEST_REQUIRE(!opener.data(a.header, std::span(a.data).first(n), plain.data()));
}

BOOST_AUTO_TEST_CASE(a_chunk_without_data_has_its_tag_all_the_same) {
  chunk_sealer sealer(seeded_secret(1));
  chunk_opener opener(seeded_secret(1));
  const auto header = sealer.header({});
  bytes data(chunk_sealer::tag_bytes);
  sealer.data(header, {}, data);
  BOOST_TEST(header.size() == chunk_sealer::header_overhead);
  BOOST_TEST(bool(opener.header(header)));
  BOOST_TEST(opener.data(header, data, nullptr));
  data[3] ^= std::byte{1};
  BOOST_TEST(!opener.data(header, data, nullptr));
}

BOOST_AUTO_TEST_SUITE_END()
