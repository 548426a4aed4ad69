// What `isthmus net` tells of links: of addresses, of a run whose store has links, of a recipe on this machine.
#include "framework/metrics/run_store.hpp"
#include "tests/launcher/prepared_run.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>

using namespace isthmus;
using namespace isthmus::tests;

namespace {

/// Listens on a free loopback port, or only holds it.
struct listener {
  explicit listener(bool listens) : socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    ::bind(socket, reinterpret_cast<sockaddr*>(&at), size);
    if (listens) ::listen(socket, 16);
    ::getsockname(socket, reinterpret_cast<sockaddr*>(&at), &size);
    address = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
  }
  ~listener() { ::close(socket); }
  listener(const listener&) = delete;
  listener& operator=(const listener&) = delete;
  int socket;
  std::string address;
};

nlohmann::json links_of(const outcome& o) {
  BOOST_TEST_REQUIRE(o.code == 0, o.err);
  return nlohmann::json::parse(o.out).at("links");
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(net, prepared_runs)

BOOST_AUTO_TEST_CASE(addresses_are_open_or_refused) {
  const listener open(true), closed(false);
  const auto links = links_of(go({"net", open.address, closed.address, "8.8.8.8:53", "--json"}));
  BOOST_TEST_REQUIRE(links.size() == 3U);
  BOOST_TEST(links[0].at("way") == "direct");
  BOOST_TEST(links[0].at("round_trip_seconds").get<double>() > 0);
  BOOST_TEST(links[0].at("loss") == 0);
  BOOST_TEST(links[1].at("way") == "refused");
  BOOST_TEST(links[2].at("way") == "not known");  // links go to loopback and private addresses only: it is not called
  BOOST_TEST(links[2].at("loss").is_null());
  BOOST_TEST(contains(go({"net", closed.address}).out, "refused"));
  BOOST_TEST(go({"net", open.address, "nothing"}).code == 2);
  BOOST_TEST(go({"net", "nothing"}).code == 3);
}

BOOST_AUTO_TEST_CASE(a_link_that_stands_though_nobody_can_call_goes_only_outward) {
  const auto run = add("demo");
  const listener open(true), closed(false);
  run_store_writer writer(run + "/metrics.sqlite");
  writer.put(run_row{"demo-1", "single", "00", "running", "", 409600, 40, 1, 1, 2, 0, 3, 0, 0});
  writer.put(link_row{0, coordinator_id, "up", 0.1, 5e6, 2, 3, 4, 5, 6, 7, 8});
  BOOST_TEST_REQUIRE(writer.flush());
  std::string state;
  const auto way_to = [&](const std::string& address) {
    auto roster = nlohmann::json::parse(std::ifstream(run + "/roster.json"));
    roster["coordinator"]["address"] = address;
    std::ofstream(run + "/roster.json") << roster.dump();
    const auto links = links_of(go({"net", "demo", "--json"}));
    BOOST_TEST_REQUIRE(links.size() == 1U);
    BOOST_TEST(links[0].at("bytes_per_second") == 5e6);
    BOOST_TEST(links[0].at("round_trip_seconds") == 0.1);
    state = links[0].at("state").get<std::string>();
    return links[0].at("way").get<std::string>();
  };
  const int lock = hold_launcher_lock(run);
  BOOST_TEST(way_to(open.address) == "direct");
  BOOST_TEST(way_to(closed.address) == "outward");
  BOOST_TEST(state == "up");
  ::close(lock);
  BOOST_TEST(way_to(closed.address) == "refused");  // the run is over: nobody has dialled out
  BOOST_TEST(state == "gone");
}

BOOST_AUTO_TEST_CASE(links_of_a_recipe_on_this_machine_are_made_and_filled) {
  const auto links = links_of(go({"net", "quickstart", "--json"}));
  BOOST_TEST_REQUIRE(links.size() == 3U);
  for (const auto& link : links) {
    BOOST_TEST(link.at("way") == "here", link.dump());
    BOOST_TEST(link.at("bytes_per_second").get<double>() > 1e6, link.dump());
  }
}

BOOST_AUTO_TEST_SUITE_END()
