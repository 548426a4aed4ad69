#include "framework/core/rare.hpp"

#include "framework/core/error.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

using namespace isthmus;

namespace {

rare_site often("test: often", 0.5), seldom("test: seldom", 0.01);

/// What a site says in so many passes of one run.
std::vector<bool> passes(std::uint64_t seed, rare_site& site, int n = 400) {
  const rare_chances chances(seed);
  std::vector<bool> out;
  for (int i = 0; i < n; ++i) out.push_back(site());
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(rare_test)

BOOST_AUTO_TEST_CASE(nothing_fires_outside_a_simulation) {
  for (int i = 0; i < 1000; ++i) BOOST_TEST(!often());
}

BOOST_AUTO_TEST_CASE(every_site_is_known_whether_it_fires_or_not) {
  for (const char* name : {"test: often", "test: seldom"})
    BOOST_TEST(std::count_if(rare_site::all().begin(), rare_site::all().end(),
                             [&](const auto* s) { return std::string(s->name()) == name; }) == 1);
}

BOOST_AUTO_TEST_CASE(a_site_is_armed_for_a_quarter_of_the_runs_and_fires_with_its_own_chance) {
  int armed = 0, fired = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    const auto said = passes(seed, often);
    const auto hits = std::count(said.begin(), said.end(), true);
    armed += hits > 0 ? 1 : 0;
    fired += static_cast<int>(hits);
  }
  BOOST_TEST(armed > 70);
  BOOST_TEST(armed < 130);
  BOOST_TEST(fired > armed * 180);
  BOOST_TEST(fired < armed * 220);
}

BOOST_AUTO_TEST_CASE(a_seed_says_the_same_twice_whatever_other_sites_are_asked) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const auto alone = passes(seed, often);
    const rare_chances chances(seed);
    std::vector<bool> mixed;
    for (std::size_t i = 0; i < alone.size(); ++i) {
      seldom();
      mixed.push_back(often());
    }
    BOOST_TEST((alone == mixed), "seed " << seed);
  }
}

BOOST_AUTO_TEST_CASE(fired_counts_and_rest_ends_it) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    rare_chances chances(seed);
    std::uint64_t hits = 0;
    for (int i = 0; i < 100; ++i) hits += often() ? 1 : 0;
    const auto told = chances.fired().find("test: often");
    BOOST_TEST((told == chances.fired().end() ? 0 : told->second) == hits);
    chances.rest();
    for (int i = 0; i < 100; ++i) BOOST_TEST(!often());
  }
}

BOOST_AUTO_TEST_CASE(two_at_once_are_refused) {
  const rare_chances one(1);
  BOOST_CHECK_THROW(std::make_unique<rare_chances>(2), contract_error);
}

BOOST_AUTO_TEST_SUITE_END()
