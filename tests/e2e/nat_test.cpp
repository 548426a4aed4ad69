// A site that nobody can call takes part in a run. In a process of its own, which leaves the network it was started in.
#include "bench/shaped_wire.hpp"
#include "tests/e2e/live_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <unistd.h>

using namespace isthmus;
using namespace isthmus::tests;

BOOST_AUTO_TEST_SUITE(behind_nat, *boost::unit_test::disabled())

BOOST_FIXTURE_TEST_CASE(a_site_that_can_only_dial_out_takes_part, scratch_folder) {
  if (::geteuid() != 0 || !bench::run_program("nft --version")) {
    BOOST_TEST_MESSAGE("SKIPPED, it needs root and nft (nftables)");
    return;
  }
  BOOST_TEST_REQUIRE(bool(bench::leave_the_network()));
  for (const char* line : {"ip addr add 10.80.0.1/32 dev lo", "ip addr add 10.80.0.2/32 dev lo", "ip addr add 10.80.0.3/32 dev lo",
                           "nft add table inet wall", "nft add chain inet wall input '{ type filter hook input priority 0; }'",
                           "nft add rule inet wall input ip daddr 10.80.0.2 tcp flags '&' '(syn|ack)' == syn drop"}) {
    const auto ok = bench::run_program(line);
    BOOST_TEST_REQUIRE(bool(ok), (ok ? line : ok.error().message));
  }
  live_run run(path.string(), "nat",
               {"run.tokens=400_000", "sites.alpha.address=10.80.0.1:0", "sites.beta.address=10.80.0.2:7100",
                "sites.gamma.address=10.80.0.3:0", "sites.beta.nat=true"});
  BOOST_TEST_REQUIRE(run.under_way(), run.told());
  const auto net = nlohmann::json::parse(run.isthmus("net", {"--json"}).out);
  bool outward = false;
  for (const auto& link : net.at("links")) outward = outward || (link.at("to") == "beta" && link.at("way") == "outward");
  BOOST_TEST(outward, net.dump());
  BOOST_TEST(run.wait() == 0, run.told());
  bool contributed = false;
  for (const auto& s : run.samples()) contributed = contributed || s.site == 1;
  BOOST_TEST(contributed);
  BOOST_TEST(run.ledger().at("balanced") == true);
  BOOST_TEST(!run.has_event("given_up", "beta"));
}

BOOST_AUTO_TEST_SUITE_END()
