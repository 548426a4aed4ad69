#include "framework/data/range_set.hpp"

#include "framework/core/rng.hpp"

#include <boost/test/unit_test.hpp>

#include <set>

using namespace isthmus;

namespace {
std::set<std::uint64_t> positions(const range_set& s) {
  std::set<std::uint64_t> out;
  for (const auto& [begin, end] : s.ranges())
    for (std::uint64_t p = begin; p < end; ++p) out.insert(p);
  return out;
}
}  // namespace

BOOST_AUTO_TEST_SUITE(range_set_test)

BOOST_AUTO_TEST_CASE(behaves_as_a_set_of_positions) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    BOOST_TEST_CONTEXT("seed " << seed) {
      rng random(seed, 0, 0, draw::fault);
      range_set ranges, other;
      std::set<std::uint64_t> plain, plain_other;
      for (int i = 0; i < 40; ++i) {
        const std::uint64_t begin = random.below(60), end = begin + random.below(8), what = random.below(4);
        auto& r = what < 3 ? ranges : other;
        auto& p = what < 3 ? plain : plain_other;
        if (what == 1) {
          r.remove(begin, end);
          for (std::uint64_t x = begin; x < end; ++x) p.erase(x);
        } else {
          r.add(begin, end);
          for (std::uint64_t x = begin; x < end; ++x) p.insert(x);
        }
      }
      BOOST_TEST((positions(ranges) == plain));
      BOOST_TEST(ranges.size() == plain.size());
      std::uint64_t last = 0;
      for (const auto& [begin, end] : ranges.ranges()) {
        BOOST_TEST((begin > last || last == 0));  // neither touching nor empty
        BOOST_TEST(begin < end);
        last = end;
      }
      std::set<std::uint64_t> both, inside;
      for (const auto x : plain) {
        if (plain_other.count(x)) both.insert(x);
        if (x >= 10 && x < 30) inside.insert(x);
      }
      BOOST_TEST((positions(ranges.intersect(other)) == both));
      BOOST_TEST((positions(ranges.within(10, 30)) == inside));
      const auto taken = ranges.take(7);
      BOOST_TEST(taken.size() == std::min<std::uint64_t>(7, plain.size()));
      BOOST_TEST(taken.size() + ranges.size() == plain.size());
      if (!ranges.empty() && !taken.empty()) BOOST_TEST(taken.ranges().back().end <= ranges.ranges().front().begin);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
