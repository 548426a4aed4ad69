// Sites that do wrong, in the simulation of the real actors.
#include "actors/sim/cluster.hpp"
#include "actors/sim/rehearsal.hpp"

#include <boost/test/unit_test.hpp>

#include <string>

using namespace isthmus;
using namespace isthmus::actors;
using namespace std::chrono_literals;

namespace {

std::string words(const rehearsal_result& r) {
  std::string text = "seed " + std::to_string(r.seed) + ": " + r.failure;
  for (const auto& finding : r.findings) text += "\n" + finding;
  return text;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(hostile_test)

BOOST_AUTO_TEST_CASE(every_promise_holds_among_hostile_sites) {
  const auto plan = *load_recipe("recipes/hostile.toml");
  std::uint64_t vetoed = 0, clipped = 0;
  for (std::uint64_t seed = 1; seed <= 16; ++seed) {
    const auto r = rehearse(plan, seed);
    BOOST_TEST(r.good(), words(r));
    vetoed += r.ledger.vetoed;
    clipped += r.ledger.clipped;
  }
  BOOST_TEST(vetoed > 0U);
  BOOST_TEST(clipped > 0U);
}

BOOST_AUTO_TEST_CASE(a_site_that_sends_no_numbers_is_told_so_and_the_others_go_on) {
  cluster c({.seed = 5, .sites = 3});  // no guard at all
  c.corrupt_site(0, fault_kind::nan_frames);
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.all_finished(); }, 200s));
  BOOST_TEST(c.ledgers().balanced(), c.describe_violations());
  BOOST_TEST(c.ledgers().vetoed > 0U);
  BOOST_TEST(c.has_event("judged", "the contribution of site 0"));
  BOOST_TEST(!c.has_event("judged", "the contribution of site 1"));
}

BOOST_AUTO_TEST_CASE(a_thousandfold_site_is_barred_and_its_samples_return) {
  cluster c({.seed = 6,
             .sites = 4,
             .overrides = {"round.aggregate=\"clip_to_median\"", "guard.norm_veto=10", "guard.barred_after=2", "guard.barred_rounds=3"}});
  c.corrupt_site(3, fault_kind::scale, 1000);
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.all_finished(); }, 200s));
  const auto r = c.ledgers();
  BOOST_TEST(r.balanced(), c.describe_violations());
  BOOST_TEST(r.vetoed > 0U);
  BOOST_TEST(r.returned > 0U);
  BOOST_TEST(c.has_event("judged", "times as long as the median one"));
  BOOST_TEST(c.has_event("judged", "2 vetoes in a row: it is barred up to round"));
}

BOOST_AUTO_TEST_SUITE_END()
