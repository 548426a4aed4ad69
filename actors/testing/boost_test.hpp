#pragma once

#include "actors/sim/rehearsal.hpp"
#include "actors/testing/fault_cluster.hpp"
#include "framework/sim/fault_plan.hpp"

#include <boost/test/unit_test.hpp>

#include <cstdint>
#include <string>
#include <utility>

/// Fixtures and checks for Boost.Test on top of fault_cluster. Every failure names the seed.
namespace isthmus::testing {

/// While it lives, each failure is told with this seed.
class told_seed {
public:
  explicit told_seed(std::uint64_t seed) : id_(boost::unit_test::framework::add_context(BOOST_TEST_LAZY_MSG("seed " << seed), true)) {}
  ~told_seed() { boost::unit_test::framework::clear_context(id_); }
  told_seed(const told_seed&) = delete;
  told_seed& operator=(const told_seed&) = delete;

private:
  int id_;
};

/// BOOST_FIXTURE_TEST_CASE(name, three_sites) { cluster.kill(site{1}, at(2s), back_after(1s)); ... }
template <std::uint32_t Sites, std::uint64_t Seed = 1>
struct simulated_sites {
  told_seed seed{Seed};
  fault_cluster cluster{actors::cluster_options{.seed = Seed, .sites = Sites}};
};
using one_site = simulated_sites<1>;
using two_sites = simulated_sites<2>;
using three_sites = simulated_sites<3>;

/// The seeds [first, last].
struct seeds {
  std::uint64_t first = 1, last = 1;
};

/// The same test of every seed: body(fault_cluster&), a fresh one each.
template <class Body>
void over_seeds(seeds range, actors::cluster_options options, Body&& body) {
  for (std::uint64_t seed = range.first; seed <= range.last; ++seed) {
    const told_seed told(seed);
    options.seed = seed;
    fault_cluster cluster(options);
    body(cluster);
  }
}

/// No sample is lost or trained twice, and all else that docs/ledger.md lets the ledgers prove.
inline void expect_balanced(const ledger_report& ledgers) {
  BOOST_TEST(ledgers.rounds > 0U, "the ledgers hold no round");
  BOOST_TEST(ledgers.balanced(), describe(ledgers));
}

/// In the same round, every site that has finished holds the same weights, to the bit.
inline void expect_same_anchor(actors::cluster& run) {
  const auto differences = anchor_differences(run, run.ledgers());
  BOOST_TEST(differences.empty(), differences);
}

/// To its end, and then all that a run promises whatever happened to it.
inline void expect_good_end(fault_cluster& run, duration limit = std::chrono::minutes(10)) {
  run.run_to_the_end(limit);
  const auto ledgers = run.ledgers();
  BOOST_TEST(ledgers.balanced(), run.story() << "\n" << describe(ledgers));
  expect_same_anchor(run);
}

/// The recipe's own faults, as `isthmus sim` plays them, with every promise checked (actors/sim/rehearsal.hpp).
inline void expect_promises_kept(const recipe& plan, std::uint64_t seed) {
  const told_seed told(seed);
  const auto result = actors::rehearse(plan, seed);
  std::string words = result.failure;
  for (const auto& finding : result.findings) words += "\n  " + finding;
  if (!result.good())
    for (const auto& fault : sim::plan_faults(plan, seed)) words += "\n  fault  " + sim::describe(fault);
  BOOST_TEST(result.good(), words);
}

}  // namespace isthmus::testing
