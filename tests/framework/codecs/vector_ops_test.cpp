#include "framework/codecs/vector_ops.hpp"

#include "framework/codecs/contribution.hpp"
#include "framework/core/probe.hpp"
#include "tests/framework/codecs/codec_fixture.hpp"

#include <boost/test/unit_test.hpp>
#include <hwy/targets.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

using namespace isthmus;

namespace {

/// Runs a check on every instruction set that this CPU has.
void on_every_target(const std::function<void()>& check) {
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    BOOST_TEST_CONTEXT(hwy::TargetName(target)) { check(); }
    hwy::SetSupportedTargetsForTest(0);
  }
}

enum class kind { normal, few_distinct, mostly_zero, all_zero, all_equal, rising, denormal, wild, kinds };

/// Numbers of many sorts, ties and zeros of both signs among them.
std::vector<float> numbers(std::size_t n, std::uint64_t seed, kind sort) {
  rng r(seed, 0, static_cast<std::uint64_t>(sort), draw::sampling);
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto v = static_cast<float>(r.normal());
    switch (sort) {
      case kind::normal: x[i] = v; break;
      case kind::few_distinct: x[i] = std::nearbyint(v * 2); break;
      case kind::mostly_zero: x[i] = r.below(100) == 0 ? v : std::copysign(0.0F, v); break;
      case kind::all_zero: x[i] = std::copysign(0.0F, v); break;
      case kind::all_equal: x[i] = std::copysign(0.25F, v); break;
      case kind::rising: x[i] = static_cast<float>(i) * 1e-3F; break;
      case kind::denormal: x[i] = v * 1e-40F; break;
      default: x[i] = v * std::exp2(static_cast<float>(r.below(120)) - 60.0F); break;
    }
  }
  return x;
}

void for_each_sort(const std::function<void(std::uint64_t, kind)>& check) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    for (int sort = 0; sort < static_cast<int>(kind::kinds); ++sort) {
      BOOST_TEST_CONTEXT("seed " << seed << " sort " << sort) { check(seed, static_cast<kind>(sort)); }
    }
  }
}

template <class T>
bool same(const T& a, const T& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(vector_ops_test)

BOOST_AUTO_TEST_CASE(top_of_chunk_equals_the_plain_loops) {
  on_every_target([] {
    for_each_sort([](std::uint64_t seed, kind sort) {
      const auto x = numbers(chunk_size, seed, sort);
      std::array<std::uint16_t, chunk_kept> fast{}, plain{};
      BOOST_TEST(vector_ops::top_of_chunk(x.data(), fast.data()) == scalar_ops::top_of_chunk(x.data(), plain.data()));
      BOOST_TEST(fast == plain, boost::test_tools::per_element());
    });
  });
}

BOOST_AUTO_TEST_CASE(not_a_number_is_the_largest_magnitude) {
  on_every_target([] {
    auto x = numbers(chunk_size, 1, kind::normal);
    x[1234] = std::numeric_limits<float>::quiet_NaN();
    std::array<std::uint16_t, chunk_kept> index{};
    BOOST_TEST(vector_ops::top_of_chunk(x.data(), index.data()) > 0x7f800000U);
    for (const std::size_t n : {1235U, 1240U, 4096U}) BOOST_TEST(vector_ops::max_magnitude(x.data(), n) > 0x7f800000U);
    BOOST_TEST(vector_ops::max_magnitude(x.data(), 1234) < 0x7f800000U);
  });
}

BOOST_AUTO_TEST_CASE(int8_equals_the_plain_loops) {
  on_every_target([] {
    for_each_sort([](std::uint64_t seed, kind sort) {
      for (const std::size_t n : {1U, 7U, 16U, 100U, 255U, 256U}) {
        auto fast = numbers(n, seed, sort), plain = fast;
        std::vector<std::int8_t> fast_q(n), plain_q(n);
        float fast_scale = 0, plain_scale = 0;
        const std::uint32_t limit = std::bit_cast<std::uint32_t>(0x1p64F);
        BOOST_TEST(vector_ops::int8_encode(fast.data(), n, limit, fast_q.data(), &fast_scale) ==
                   scalar_ops::int8_encode(plain.data(), n, limit, plain_q.data(), &plain_scale));
        BOOST_TEST(fast_scale == plain_scale);
        BOOST_TEST(fast_q == plain_q, boost::test_tools::per_element());
        BOOST_TEST(same(fast, plain));
        vector_ops::int8_decode(fast_q.data(), n, fast_scale, fast.data());
        scalar_ops::int8_decode(plain_q.data(), n, plain_scale, plain.data());
        BOOST_TEST(same(fast, plain));
      }
    });
  });
}

BOOST_AUTO_TEST_CASE(non_zero_equals_the_plain_loops) {
  on_every_target([] {
    for_each_sort([](std::uint64_t seed, kind sort) {
      for (const std::size_t n : {1U, 31U, 4000U, 4096U}) {
        const auto x = numbers(n, seed, sort);
        std::vector<std::uint16_t> fast_at(n + 16), plain_at(n + 16);
        std::vector<float> fast(n + 16), plain(n + 16);
        const std::size_t found = vector_ops::non_zero(x.data(), n, fast_at.data(), fast.data());
        BOOST_TEST(found == scalar_ops::non_zero(x.data(), n, plain_at.data(), plain.data()));
        fast.resize(found), plain.resize(found), fast_at.resize(found), plain_at.resize(found);
        BOOST_TEST(same(fast, plain));
        BOOST_TEST(same(fast_at, plain_at));
      }
    });
  });
}

BOOST_AUTO_TEST_CASE(contributions_equal_the_plain_loops) {
  on_every_target([] {
    for_each_sort([](std::uint64_t seed, kind sort) {
      const std::size_t n = 640;
      const auto anchor = numbers(n, seed, kind::normal), working = numbers(n, seed + 100, sort);
      auto fast = numbers(n, seed + 200, sort), plain = fast;
      block_probes fast_sums, plain_sums;
      vector_ops::form_blocks(anchor.data(), working.data(), fast.data(), 1.7F, 0.95F, seed, 3, n / 64, fast_sums);
      scalar_ops::form_blocks(anchor.data(), working.data(), plain.data(), 1.7F, 0.95F, seed, 3, n / 64, plain_sums);
      BOOST_TEST(same(fast, plain));
      BOOST_TEST(std::memcmp(&fast_sums, &plain_sums, sizeof fast_sums) == 0);
    });
  });
}

BOOST_AUTO_TEST_CASE(probes_equal_their_definition) {
  on_every_target([] {
    for (const std::size_t n : {0U, 1U, 63U, 64U, 65U, 1000U, 4096U}) {
      const auto x = numbers(n, n + 1, kind::wild);
      std::array<double, 16> lanes{};
      for (std::size_t i = 0; i < n; ++i) lanes[i % 16] += probe_element(7, 128 + i, x[i]);
      BOOST_TEST(probe(x, 7, 128) == add_lanes(lanes));
      running_probe pieces(7);
      const std::size_t cut = n / 2 / 64 * 64;
      pieces.add(std::span(x).first(cut), 128);
      pieces.add(std::span(x).subspan(cut), 128 + cut);
      BOOST_TEST(pieces.total() == probe(x, 7, 128));
      std::array<double, 16> squares{};
      for (std::size_t i = 0; i < n; ++i) squares[i % 16] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
      BOOST_TEST(measure(x, 7).probe == probe(x, 7));
      BOOST_TEST(measure(x, 7).squares == add_lanes(squares));
    }
  });
}

BOOST_AUTO_TEST_SUITE_END()
