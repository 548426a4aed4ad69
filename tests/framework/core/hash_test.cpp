#include "framework/core/hash.hpp"

#include <boost/test/unit_test.hpp>

#include <cstring>
#include <set>
#include <vector>

using namespace isthmus;

namespace {
std::vector<std::byte> pattern(std::size_t n) {
  std::vector<std::byte> bytes(n);
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * 131 + i / 7);
  return bytes;
}
}  // namespace

BOOST_AUTO_TEST_SUITE(hash_test)

BOOST_AUTO_TEST_CASE(it_is_xxh3_128) {
  BOOST_TEST(hash_bytes({}).hex() == "99aa06d3014798d86001c324468d497f");  // the published value of the empty input
}

BOOST_AUTO_TEST_CASE(hex_and_back) {
  const hash128 h{0x0123456789abcdefU, 0x00000000000000ffU};
  BOOST_TEST(h.hex() == "0123456789abcdef00000000000000ff");
  BOOST_TEST((parse_hash(h.hex()) == h));
  const std::string digits = h.hex();
  for (const std::string& bad : {std::string(), digits.substr(1), digits + "0", "0123456789ABCDEF00000000000000ff" + std::string(),
                                 " " + digits.substr(1), "0x" + digits.substr(2), digits.substr(0, 31) + "\n"})
    BOOST_TEST(!parse_hash(bad).has_value(), bad);
}

BOOST_AUTO_TEST_CASE(a_stream_gives_the_hash_of_the_whole) {
  for (const std::size_t n : {0U, 1U, 16U, 240U, 241U, 1024U, 100'000U}) {
    const auto bytes = pattern(n);
    for (const std::size_t piece : {1U, 7U, 64U, 4096U}) {
      hash_stream stream;
      for (std::size_t at = 0; at < n; at += piece) stream.add(std::span(bytes).subspan(at, std::min(piece, n - at)));
      BOOST_TEST((stream.digest() == hash_bytes(bytes)));
    }
  }
}

BOOST_AUTO_TEST_CASE(every_bit_counts) {
  auto bytes = pattern(64);
  std::set<hash128> seen{hash_bytes(bytes)};
  for (std::size_t bit = 0; bit < 512; ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    seen.insert(hash_bytes(bytes));
    bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
  }
  BOOST_TEST(seen.size() == 513U);
  BOOST_TEST((hash_bytes(bytes, 1) != hash_bytes(bytes, 2)));
}

BOOST_AUTO_TEST_CASE(a_chain_depends_on_order) {
  const hash128 a{1, 2}, b{3, 4};
  BOOST_TEST((hash_chain(a, b) != hash_chain(b, a)));
  BOOST_TEST((hash_chain(a, b) == hash_chain(a, b)));
}

BOOST_AUTO_TEST_CASE(floats_hash_as_their_bytes) {
  const std::vector<float> zero{0.0F}, minus_zero{-0.0F};
  BOOST_TEST((hash_floats(zero) != hash_floats(minus_zero)));
  BOOST_TEST((hash_floats(zero) == hash_bytes(std::as_bytes(std::span(zero)))));
}

BOOST_AUTO_TEST_SUITE_END()
