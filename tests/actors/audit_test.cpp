// Homes that train contributions again, in the simulation of the real actors.
#include "actors/sim/cluster.hpp"

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

using namespace isthmus;
using namespace isthmus::actors;
using namespace std::chrono_literals;

namespace {

/// Four sites with shared text; their homes audit, and bar at the first failure. Of three steps a round, half a site's momentum would be of
/// the round before, and what its samples make less alike.
cluster_options audited(std::uint64_t seed, const std::vector<std::string>& more = {}) {
  cluster_options o{
      .seed = seed,
      .sites = 4,
      .overrides = {"guard.audit_rate=0.5", "guard.barred_after=1", "guard.barred_rounds=3", "round.inner_steps=12", "run.tokens=24000"}};
  for (int i = 0; i < 4; ++i) o.overrides.push_back("sites.s" + std::to_string(i) + ".shared_text=true");
  o.overrides.insert(o.overrides.end(), more.begin(), more.end());
  return o;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(audit_test)

BOOST_AUTO_TEST_CASE(what_honest_sites_send_is_what_their_samples_make) {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    cluster c(audited(seed));
    c.start_all();
    BOOST_REQUIRE(c.run_until([&] { return c.all_finished(); }, 200s));
    const auto r = c.ledgers();
    BOOST_TEST(r.balanced(), c.describe_violations());
    BOOST_TEST(r.audits_made() > 0U, "seed " << seed);
    BOOST_TEST(r.audits_failed() == 0U, "seed " << seed);
  }
}

// As long as the others', and of its own direction each time: only its samples tell.
BOOST_AUTO_TEST_CASE(a_site_that_trained_nothing_is_found_and_barred) {
  cluster c(audited(5));
  c.corrupt_site(3, fault_kind::noise);
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.all_finished(); }, 400s));
  const auto r = c.ledgers();
  BOOST_TEST(r.balanced(), c.describe_violations());
  BOOST_TEST(r.audits_failed() > 0U);
  BOOST_TEST(r.audits_made() > r.audits_failed());
  BOOST_TEST(r.vetoed > 0U);  // while it was barred
  BOOST_TEST(c.has_event("judged", "the contribution of site 3: an audit of what it sent in round"));
  BOOST_TEST(c.has_event("judged", "it is barred up to round"));
  for (const auto* honest : {"0", "1", "2"})
    BOOST_TEST(!c.has_event("judged", std::string("the contribution of site ") + honest + ": an audit"));
}

BOOST_AUTO_TEST_CASE(nobody_audits_a_text_that_is_not_shared) {
  cluster c(audited(6, {"sites.s3.shared_text=false"}));
  c.corrupt_site(3, fault_kind::noise);
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.all_finished(); }, 200s));
  const auto r = c.ledgers();
  BOOST_TEST(r.balanced(), c.describe_violations());
  BOOST_TEST(r.audits_made() > 0U);
  BOOST_TEST(r.audits_failed() == 0U);
}

BOOST_AUTO_TEST_CASE(an_auditor_that_fails_costs_audits_only) {
  cluster c(audited(7));
  c.start_all();
  BOOST_REQUIRE(c.run_until([&] { return c.last_round() >= 2; }, 100s));
  for (site_id site = 0; site < 4; ++site) c.fail_child(site, "auditor");
  BOOST_REQUIRE(c.run_until([&] { return c.all_finished(); }, 200s));
  BOOST_TEST(c.has_event("crash", "auditor failed"));
  BOOST_TEST(c.ledgers().balanced(), c.describe_violations());
  BOOST_TEST(c.ledgers().audits_made() > 0U);
}

BOOST_AUTO_TEST_SUITE_END()
