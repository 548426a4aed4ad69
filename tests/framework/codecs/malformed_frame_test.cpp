#include "framework/codecs/make_codec.hpp"
#include "framework/core/probe.hpp"
#include "tests/framework/codecs/codec_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace isthmus;

namespace {

struct frames {
  group_shape group = make_test_group();
  std::shared_ptr<const codec> up = make_sparse_loco_codec(), down = make_sparse_union_codec();
  std::vector<std::shared_ptr<const codec>> codecs{make_none_codec(0x1p64F), make_int8_codec(0x1p64F), up, down};

  /// A frame of the codec; the union's has gaps, bitmaps, a dictionary and raw values.
  std::vector<std::byte> frame_of(const codec& c, std::uint64_t seed) {
    auto value = random_values(group, seed);
    if (c.name() == "sparse_union") {
      std::vector<float> sum(value.size());
      BOOST_REQUIRE(up->add_to(group, up->encode(group, value), sum).has_value());
      for (std::size_t i = 0; i < 4096; i += 3) sum[i] = value[i];
      return c.encode(group, sum);
    }
    return c.encode(group, value);
  }

  /// The frame's error, having checked that the sum was left as it was; errc::ok where it was accepted.
  errc judge(const codec& c, std::span<const std::byte> frame) {
    // A copy of exactly its size, so that a sanitizer sees any read past it.
    const std::vector<std::byte> exact(frame.begin(), frame.end());
    std::vector<float> sum(static_cast<std::size_t>(group.size), 1.0F);
    const auto result = c.add_to(group, exact, sum);
    if (result) {
      BOOST_TEST(std::all_of(sum.begin(), sum.end(), [](float v) { return std::isfinite(v); }));
      return errc::ok;
    }
    BOOST_TEST(std::all_of(sum.begin(), sum.end(), [](float v) { return v == 1.0F; }));
    BOOST_TEST(!result.error().message.empty());
    return result.error().code;
  }
};

void put(std::vector<std::byte>& frame, std::size_t at, std::initializer_list<int> bytes) {
  for (const int b : bytes) frame.at(at++) = static_cast<std::byte>(b);
}

}  // namespace

namespace isthmus {
std::ostream& boost_test_print_type(std::ostream& out, errc code) { return out << describe(code); }
}  // namespace isthmus

BOOST_FIXTURE_TEST_SUITE(malformed_frame_test, frames)

BOOST_AUTO_TEST_CASE(every_shorter_frame_is_truncated) {
  for (const auto& c : codecs) {
    const auto frame = frame_of(*c, 1);
    const std::size_t step = frame.size() > 20000 ? 97 : 7;
    for (std::size_t n = 0; n < frame.size(); n += n < 100 || n + 100 > frame.size() ? 1 : step) {
      const errc code = judge(*c, std::span(frame).first(n));
      BOOST_TEST((code == errc::truncated || code == errc::malformed || code == errc::out_of_range), c->name() << " at " << n);
    }
    auto longer = frame;
    longer.push_back(std::byte{0});
    BOOST_TEST(judge(*c, longer) == errc::malformed);
  }
}

BOOST_AUTO_TEST_CASE(flipped_bits_never_crash) {
  for (const auto& c : codecs) {
    const auto frame = frame_of(*c, 2);
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
      BOOST_TEST_CONTEXT(c->name() << " seed " << seed) {
        rng draw_from(seed, 0, 0, draw::fault);
        auto torn = frame;
        for (std::uint64_t flips = 1 + draw_from.below(8); flips > 0; --flips) {
          // every second flip in the first 300 bytes, where counts and tables lie
          const std::uint64_t at = draw_from.below(flips % 2 == 0 ? 300 : torn.size());
          torn[at] ^= std::byte{1} << draw_from.below(8);
        }
        judge(*c, torn);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(random_bytes_behind_a_good_header_never_crash) {
  for (const auto& c : codecs) {
    const auto frame = frame_of(*c, 3);
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
      rng draw_from(seed, 0, 1, draw::fault);
      auto noise = frame;
      for (std::size_t i = 16; i < noise.size(); ++i) noise[i] = static_cast<std::byte>(draw_from.next());
      judge(*c, noise);
    }
  }
}

BOOST_AUTO_TEST_CASE(headers_are_checked) {
  for (const auto& c : codecs) {
    const auto frame = frame_of(*c, 4);
    auto bad = frame;
    put(bad, 0, {'P'});
    BOOST_TEST(judge(*c, bad) == errc::malformed);
    put(bad = frame, 4, {77});
    BOOST_TEST(judge(*c, bad) == errc::unsupported);
    put(bad = frame, 6, {2});
    BOOST_TEST(judge(*c, bad) == errc::unsupported);
    put(bad = frame, 15, {0x80});
    BOOST_TEST(judge(*c, bad) == errc::malformed);
  }
}

BOOST_AUTO_TEST_CASE(numbers_out_of_bounds_are_refused) {
  const std::initializer_list<int> nan{0, 0, 0xc0, 0x7f}, huge{0, 0, 0x80, 0x7e}, minus{0, 0, 0x80, 0xbf};
  for (std::size_t i = 0; i < 3; ++i) {  // a value, a scale, a mean
    auto bad = frame_of(*codecs[i], 5);
    put(bad, 16, nan);
    BOOST_TEST(judge(*codecs[i], bad) == errc::not_finite);
    put(bad, 16, huge);
    BOOST_TEST(judge(*codecs[i], bad) == errc::out_of_range);
  }
  auto bad = frame_of(*codecs[1], 5);
  put(bad, 16, minus);
  BOOST_TEST(judge(*codecs[1], bad) == errc::out_of_range);
  bad = frame_of(*codecs[1], 5);
  put(bad, bad.size() - 1, {0x80});
  BOOST_TEST(judge(*codecs[1], bad) == errc::out_of_range);
  bad = frame_of(*up, 5);
  put(bad, 32, {0, 0, 0});  // the first two indices equal
  BOOST_TEST(judge(*up, bad) == errc::malformed);
}

BOOST_AUTO_TEST_CASE(unions_are_checked) {
  parameter_layout layout;
  layout.add("a", {8192}, true);
  group = cut_groups(layout, 1).at(0);
  std::vector<float> value(8192);
  for (std::size_t i = 0; i < 32; ++i) value[i] = i % 2 == 0 ? 1.0F : 2.0F;
  for (std::size_t i = 4096; i < 8192; i += 2) value[i] = 1.0F;
  const auto frame = down->encode(group, value);
  // header 16, heads 4, dictionary's size 2, gaps 32, bitmap 512, dictionary 8, codes
  BOOST_REQUIRE(frame.size() == 16U + 4 + 2 + 32 + 512 + 8 + 32 + 2048);
  BOOST_TEST(judge(*down, frame) == errc::ok);
  auto bad = frame;
  put(bad, 16, {33});  // one place more: the bitmap's first byte becomes a gap
  BOOST_TEST(judge(*down, bad) != errc::ok);
  put(bad = frame, 17, {0x70});
  BOOST_TEST(judge(*down, bad) == errc::out_of_range);
  put(bad = frame, 22, std::initializer_list<int>{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255});
  BOOST_TEST(judge(*down, bad) == errc::out_of_range);
  put(bad = frame, 54, {0x54});  // a bit less in the bitmap
  BOOST_TEST(judge(*down, bad) == errc::malformed);
  put(bad = frame, 20, {1, 0});  // the dictionary loses its second value
  BOOST_TEST(judge(*down, bad) != errc::ok);
  put(bad = frame, 21, {0xff});
  BOOST_TEST(judge(*down, bad) == errc::out_of_range);
  put(bad = frame, frame.size() - 1, {2});
  BOOST_TEST(judge(*down, bad) == errc::out_of_range);
  put(bad = frame, 566, {0, 0, 0xc0, 0x7f});
  BOOST_TEST(judge(*down, bad) == errc::not_finite);
}

BOOST_AUTO_TEST_SUITE_END()
