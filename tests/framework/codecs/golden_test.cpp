#include "framework/codecs/make_codec.hpp"
#include "framework/core/rng.hpp"
#include "framework/optim/outer.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>

using namespace isthmus;

namespace {

/// The numbers of tests/golden/make_codec_golden.py.
std::vector<float> numbers(std::size_t n, bool coarse) {
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) {
    float v = static_cast<float>(static_cast<std::int64_t>(mix64(i + 1) >> 40) - (1 << 23)) / 8388608.0F;
    if (coarse) v = std::nearbyint(v * 32) / 32;
    x[i] = v * v * v;
  }
  return x;
}

std::string hex(const std::vector<std::byte>& bytes) {
  std::string text;
  for (const std::byte b : bytes) {
    text += "0123456789abcdef"[std::to_integer<unsigned>(b) >> 4];
    text += "0123456789abcdef"[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}

group_shape one_tensor(std::int64_t count) { return {0, 0, count, {{0, count}}}; }

struct golden_file {
  nlohmann::json golden = nlohmann::json::parse(std::ifstream("tests/golden/codec.json"));
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(golden_test, golden_file)

BOOST_AUTO_TEST_CASE(frames_are_those_that_pytorch_computes) {
  for (const auto& c : golden["cases"]) {
    const auto n = c["count"].get<std::size_t>();
    auto value = numbers(n, c["coarse"]);
    auto first = std::vector<float>(value.begin(), value.begin() + 1000);
    BOOST_TEST(hex(make_sparse_loco_codec()->encode(one_tensor(static_cast<std::int64_t>(n)), value)) ==
               c["sparse_loco"].get<std::string>());
    BOOST_TEST(hex(make_int8_codec(0x1p64F)->encode(one_tensor(1000), first)) == c["int8"].get<std::string>());
  }
}

BOOST_AUTO_TEST_CASE(nesterov_steps_are_pytorchs) {
  std::vector<float> anchor{1}, momentum{0};
  for (std::size_t step = 0; step < golden["gradients"].size(); ++step) {
    apply_outer({}, one_tensor(1), std::vector<float>{4 * golden["gradients"][step].get<float>()}, 4.0, anchor, momentum);
    BOOST_TEST(anchor[0] == golden["nesterov"][step].get<float>(), boost::test_tools::tolerance(1e-6F));
  }
}

BOOST_AUTO_TEST_SUITE_END()
