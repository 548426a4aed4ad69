#include "framework/codecs/codec.hpp"

#include "framework/codecs/make_codec.hpp"
#include "framework/core/probe.hpp"
#include "tests/framework/codecs/codec_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

using namespace isthmus;

namespace {

std::vector<std::shared_ptr<const codec>> every_codec() {
  return {make_none_codec(0x1p64F), make_int8_codec(0x1p64F), make_sparse_loco_codec(), make_sparse_union_codec()};
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), 4 * a.size()) == 0;
}

std::vector<float> decoded(const codec& c, const group_shape& group, std::span<const std::byte> frame) {
  std::vector<float> sum(static_cast<std::size_t>(group.size));
  BOOST_REQUIRE(c.add_to(group, frame, sum).has_value());
  return sum;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(codec_test)

BOOST_AUTO_TEST_CASE(what_was_not_sent_stays_in_the_value) {
  const group_shape group = make_test_group();
  for (const auto& c : every_codec()) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      BOOST_TEST_CONTEXT(c->name() << " seed " << seed) {
        const auto before = random_values(group, seed);
        auto after = before;
        const auto frame = c->encode(group, after);
        const auto sent = decoded(*c, group, frame);
        std::vector<float> expected(before.size());
        for (std::size_t i = 0; i < before.size(); ++i) expected[i] = before[i] - sent[i];
        BOOST_TEST(same_bits(after, expected));
        BOOST_TEST(c->encode(group, after = before) == frame);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(sizes_are_exact) {
  const group_shape group = make_test_group();
  for (const auto& c : every_codec()) {
    auto value = random_values(group, 3);
    const auto frame = c->encode(group, value);
    if (c->payload_bytes(group) == 0) continue;
    BOOST_TEST(frame.size() == c->size(group).header + c->payload_bytes(group));
  }
  const auto sparse = make_codec_pair("sparse_loco")->up->size(group);
  BOOST_TEST(sparse.sparse * 8 == 6U * (12 + 2) * 64);  // six chunks
  BOOST_TEST(sparse.tables == 3U * 16);
  BOOST_TEST(sparse.dense == 2U * (712 + 77 + 1));
}

BOOST_AUTO_TEST_CASE(none_and_the_union_are_exact) {
  const group_shape group = make_test_group();
  for (const auto& c : {make_none_codec(0x1p96F), make_sparse_union_codec()}) {
    for (const double keep : {0.0, 0.001, 0.05, 0.3, 1.0}) {
      auto value = random_values(group, 11);
      rng draw_from(5, 0, 0, draw::sampling);
      for (auto& v : value) v = draw_from.uniform() < keep ? v : 0.0F;
      const auto before = value;
      BOOST_TEST(same_bits(decoded(*c, group, c->encode(group, value)), before));
      BOOST_TEST(std::all_of(value.begin(), value.end(), [](float v) { return v == 0; }));
    }
  }
}

BOOST_AUTO_TEST_CASE(frames_need_no_alignment) {
  const group_shape group = make_test_group();
  for (const auto& c : every_codec()) {
    auto value = random_values(group, 6);
    const auto frame = c->encode(group, value);
    std::vector<std::byte> shifted(1);
    shifted.insert(shifted.end(), frame.begin(), frame.end());
    BOOST_TEST(same_bits(decoded(*c, group, std::span<const std::byte>(shifted).subspan(1)), decoded(*c, group, frame)));
  }
}

BOOST_AUTO_TEST_CASE(the_union_of_few_frames_names_its_values_in_a_byte) {
  const group_shape group = make_test_group();
  const auto pair = *make_codec_pair("sparse_loco");
  std::vector<float> sum(static_cast<std::size_t>(group.size));
  for (std::uint64_t site = 0; site < 3; ++site) {
    auto value = random_values(group, 20 + site);
    BOOST_REQUIRE(pair.up->add_to(group, pair.up->encode(group, value), sum).has_value());
  }
  const auto before = sum;
  const auto frame = pair.down->encode(group, sum);
  BOOST_TEST(same_bits(decoded(*pair.down, group, frame), before));
  // 6 chunks of at most 192 places with a byte each for gap and value, 3 dictionaries of at most 124 values, tails in fp32
  BOOST_TEST(frame.size() <= 16 + 6 * (2 + 2 * 192) + 3 * (2 + 4 * 124) + 4 * (712 + 77 + 1));
}

BOOST_AUTO_TEST_CASE(int8_errs_by_half_a_step_at_most) {
  const group_shape group = make_test_group();
  const auto c = make_int8_codec(0x1p64F);
  for (const double scale : {1e-35, 1e-12, 1.0, 1e15}) {
    auto value = random_values(group, 2, scale);
    const auto before = value;
    c->encode(group, value);
    for (const auto& tensor : group.tensors) {
      for (std::int64_t at = 0; at < tensor.count; at += 256) {
        const auto first = static_cast<std::size_t>(tensor.offset + at);
        const auto n = static_cast<std::size_t>(std::min<std::int64_t>(256, tensor.count - at));
        float largest = 0, error = 0;
        for (std::size_t i = first; i < first + n; ++i) {
          largest = std::max(largest, std::abs(before[i]));
          error = std::max(error, std::abs(value[i]));
        }
        BOOST_TEST(error <= (largest < 0x1p-100F ? largest : largest / 253));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(error_feedback_sends_everything_in_the_end) {
  const group_shape group = make_test_group();
  for (const char* name : {"int8", "sparse_loco"}) {
    const auto up = make_codec_pair(name)->up;
    const auto before = random_values(group, 9);
    auto value = before;
    std::vector<float> sum(before.size());
    for (int round = 0; round < 200; ++round) BOOST_REQUIRE(up->add_to(group, up->encode(group, value), sum).has_value());
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
      error += std::pow(static_cast<double>(sum[i]) - static_cast<double>(before[i]), 2);
      norm += std::pow(static_cast<double>(before[i]), 2);
    }
    BOOST_TEST(std::sqrt(error / norm) < 0.05, name << ": " << std::sqrt(error / norm));
  }
}

BOOST_AUTO_TEST_CASE(mass_is_the_probe_of_the_decoded_frame) {
  const group_shape group = make_test_group();
  for (const auto& c : every_codec()) {
    auto value = random_values(group, 4);
    const auto frame = c->encode(group, value);
    const double expected = probe(decoded(*c, group, frame), 99);
    BOOST_TEST(*c->mass(group, frame, 99) == expected, boost::test_tools::tolerance(1e-9));
  }
}

BOOST_AUTO_TEST_CASE(numbers_that_frames_may_not_carry_are_our_own_bug) {
  const group_shape group = make_test_group();
  for (const auto& c : every_codec()) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -0x1p97F}) {
      for (const auto& tensor : group.tensors) {
        auto value = random_values(group, 4);
        value[static_cast<std::size_t>(tensor.offset + tensor.count - 1)] = bad;
        BOOST_CHECK_THROW(c->encode(group, value), contract_error);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(names_are_checked) {
  BOOST_TEST(make_codec_pair("int8")->down_has_residual);
  BOOST_TEST(!make_codec_pair("sparse_loco")->down_has_residual);
  BOOST_TEST(make_codec_pair("zip").error().message.find("none, int8, sparse_loco") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(own_codecs_have_names_of_their_own) {
  const auto none = *make_codec_pair("none"), int8 = *make_codec_pair("int8");
  const own_codecs own{{"own.a", none}, {"own.b", int8}};
  BOOST_TEST(make_codec_pair("own.b", own)->up == int8.up);
  BOOST_TEST(make_codec_pair("int8", own)->up->name() == "int8");
  BOOST_TEST((make_codec_pair("own.c", own).error().code == errc::unsupported));
  BOOST_TEST(make_codec_pair("own.c", own).error().message.find("sparse_loco, own.a, own.b") != std::string::npos);
  BOOST_CHECK_THROW(static_cast<void>(make_codec_pair("none", {{"int8", none}})), contract_error);
  BOOST_CHECK_THROW(static_cast<void>(make_codec_pair("own.a", {{"own.a", {none.up, nullptr, false}}})), contract_error);
}

BOOST_AUTO_TEST_SUITE_END()
