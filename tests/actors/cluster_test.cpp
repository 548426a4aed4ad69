#include "actors/sim/cluster.hpp"

#include <boost/test/unit_test.hpp>

using namespace isthmus;
using namespace isthmus::actors;
using namespace std::chrono_literals;

namespace {

void expect_balanced(cluster& c) {
  const auto report = c.ledgers();
  BOOST_TEST(report.balanced(), c.describe_violations());
  BOOST_TEST(report.rounds > 0U);
}

void expect_finished(cluster& c, duration limit) {
  BOOST_TEST(c.run_until([&] { return c.all_finished(); }, limit), "the run did not end; round " << c.last_round());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cluster_test)

BOOST_AUTO_TEST_CASE(one_site_trains_to_its_end) {
  cluster c({.seed = 1, .sites = 1, .overrides = {"run.tokens=1920"}});
  c.start_all();
  expect_finished(c, 300s);
  expect_balanced(c);
  const auto losses = c.losses(0);
  BOOST_REQUIRE(losses.size() >= 30U);
  BOOST_TEST(losses.back() < losses.front());
}

BOOST_AUTO_TEST_CASE(documents_are_kept_apart_where_the_recipe_says_so) {
  const auto losses = [](const char* documents) {
    cluster c({.seed = 1, .sites = 1, .overrides = {"run.tokens=1920", std::string("data.documents=") + documents}});
    c.start_all();
    expect_finished(c, 300s);
    return c.losses(0);
  };
  const auto packed = losses("packed"), separate = losses("separate");
  BOOST_TEST(packed.size() == separate.size());
  BOOST_TEST(packed != separate);
  BOOST_TEST(separate.back() < separate.front());
}

BOOST_AUTO_TEST_CASE(three_sites_train_to_their_end) {
  const std::vector<std::vector<std::string>> codecs{
      {"round.codec=none"}, {"round.codec=int8"}, {"round.codec=sparse_loco"}, {"round.codec=sparse_loco", "round.warm_up_rounds=3"}};
  for (const auto& codec : codecs) {
    cluster c({.seed = 2, .sites = 3, .overrides = codec});
    c.start_all();
    expect_finished(c, 300s);
    expect_balanced(c);
    const auto report = c.ledgers();
    BOOST_TEST(report.last_round.at(0) == report.last_round.at(1));
    BOOST_TEST(report.outstanding == 0U);
    BOOST_TEST(report.complete);
  }
}

BOOST_AUTO_TEST_CASE(the_same_seed_gives_the_same_history) {
  const auto digest = [](std::uint64_t seed) {
    cluster c({.seed = seed, .sites = 3, .overrides = {"run.tokens=1920"}});
    c.start_all();
    c.run_for(1s);
    c.kill_site(1);
    c.run_for(3s);
    c.start_site(1);
    c.run_for(20s);
    return c.world.digest().hex();
  };
  const std::string first = digest(5);
  BOOST_TEST(first == digest(5));
  BOOST_TEST(first != digest(6));
}

BOOST_AUTO_TEST_SUITE_END()
