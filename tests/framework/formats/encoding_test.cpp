#include "framework/formats/encoding.hpp"

#include <boost/test/unit_test.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

using namespace isthmus;

namespace {

std::vector<std::uint16_t> all_patterns() {
  std::vector<std::uint16_t> words(65536);
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::uint16_t>(i);
  return words;
}

/// IEEE 754 binary16, straight from its definition.
float half_by_definition(std::uint32_t bits) {
  const std::uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float sign = bits >> 15 != 0 ? -1.0F : 1.0F;
  if (exponent == 31) return fraction == 0 ? sign * std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(1024 + fraction), static_cast<int>(exponent) - 25);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(encoding_test)

BOOST_AUTO_TEST_CASE(every_half_is_the_float_of_its_definition_and_comes_back) {
  const auto words = all_patterns();
  std::vector<float> floats(words.size());
  decode_f16(reinterpret_cast<const std::byte*>(words.data()), std::ssize(words), floats.data());
  std::vector<std::uint16_t> back(words.size());
  encode_f16(floats, back.data());
  for (std::uint32_t i = 0; i < words.size(); ++i) {
    const float expected = half_by_definition(i);
    const auto bits = std::bit_cast<std::uint32_t>(floats[i]);
    if (std::isnan(expected)) {
      BOOST_REQUIRE(bits == ((i & 0x8000U) << 16 | 0x7f800000U | (i & 1023U) << 13));  // sign and payload stay
      BOOST_REQUIRE(back[i] == (i | 0x200U));                                          // quiet
    } else {
      BOOST_REQUIRE_MESSAGE(bits == std::bit_cast<std::uint32_t>(expected), "half " << i);
      BOOST_REQUIRE_MESSAGE(back[i] == i, "half " << i << " came back as " << back[i]);
    }
  }
}

BOOST_AUTO_TEST_CASE(every_bf16_is_the_upper_half_of_a_float_and_comes_back) {
  const auto words = all_patterns();
  std::vector<float> floats(words.size());
  decode_bf16(reinterpret_cast<const std::byte*>(words.data()), std::ssize(words), floats.data());
  std::vector<std::uint16_t> back(words.size());
  encode_bf16(floats, back.data());
  for (std::uint32_t i = 0; i < words.size(); ++i) {
    BOOST_REQUIRE(std::bit_cast<std::uint32_t>(floats[i]) == i << 16);
    BOOST_REQUIRE_MESSAGE(back[i] == (std::isnan(floats[i]) ? i | 0x40U : i), "bf16 " << i << " came back as " << back[i]);
  }
}

// Between two neighbours: below the middle down, above it up, in the middle to the even one.
BOOST_AUTO_TEST_CASE(floats_are_rounded_to_the_nearest_ties_to_even) {
  for (std::uint32_t i = 0; i < 0x7c00; ++i) {
    const float low = half_by_definition(i), high = i == 0x7bff ? 65536.0F : half_by_definition(i + 1);
    const float middle = low + (high - low) / 2;  // exact
    const std::array<float, 3> in{std::nextafter(middle, low), middle, std::nextafter(middle, high)};
    std::array<std::uint16_t, 3> out{};
    encode_f16(in, out.data());
    BOOST_REQUIRE_MESSAGE(out[0] == i && out[1] == (i % 2 == 0 ? i : i + 1) && out[2] == i + 1, "above half " << i);
  }
  for (std::uint32_t i = 0; i < 0x7f80; ++i) {
    const std::uint32_t middle = i << 16 | 0x8000U;
    const std::array<float, 3> in{std::bit_cast<float>(middle - 1), std::bit_cast<float>(middle), std::bit_cast<float>(middle + 1)};
    std::array<std::uint16_t, 3> out{};
    encode_bf16(in, out.data());
    BOOST_REQUIRE_MESSAGE(out[0] == i && out[1] == (i % 2 == 0 ? i : i + 1) && out[2] == i + 1, "above bf16 " << i);
  }
}

BOOST_AUTO_TEST_CASE(numbers_need_not_be_aligned) {
  std::vector<std::byte> bytes(1 + 4 * 3);
  const std::array<float, 3> in{1.5F, -2.0F, 3.25F};
  std::memcpy(bytes.data() + 1, in.data(), sizeof in);
  std::array<float, 3> out{};
  decode_f32(bytes.data() + 1, 3, out.data());
  BOOST_TEST(out == in, boost::test_tools::per_element());
  decode_f32(nullptr, 0, nullptr);
}

BOOST_AUTO_TEST_CASE(encodings_have_names_and_sizes) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(dtype::u64); ++i) {
    const auto& encoding = encoding_of(static_cast<dtype>(i));
    BOOST_TEST(encoding.name == dtype_name(static_cast<dtype>(i)));
    BOOST_TEST(static_cast<std::size_t>(encoding.block_bytes) == dtype_bytes(static_cast<dtype>(i)));
    BOOST_TEST((encoding.decode != nullptr) == (encoding.name == "F32" || encoding.name == "F16" || encoding.name == "BF16"));
  }
  BOOST_TEST(ggml_encodings_known() == "F32, F16, BF16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K");
  BOOST_TEST(ggml_encoding(12)->name == "Q4_K");
  BOOST_TEST(ggml_encoding(10) == nullptr);
  BOOST_TEST(ggml_type_name(10) == "Q2_K");
  BOOST_TEST(ggml_type_name(77) == "type 77");
}

BOOST_AUTO_TEST_SUITE_END()
