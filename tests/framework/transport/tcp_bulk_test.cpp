#include "bench/shaped_wire.hpp"
#include "framework/transport/bulk_sender.hpp"
#include "tests/framework/transport/keys.hpp"
#include "tests/framework/transport/outsider.hpp"
#include "tests/framework/transport/probe.hpp"
#include "tests/framework/transport/stranger.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;

namespace {

ucx_transport_options over_tcp(site_id site, bool sealed = true) {
  auto o = options_of(site);
  if (sealed) o.keys = keys_of(site);
  o.bulk_over_tcp = true;
  o.endpoints = 3;
  return o;
}

/// Messages of all sizes go both ways, whole and in good order.
void exchange(probe& a, probe& b) {
  const std::vector<std::size_t> sizes{0, 1, 65536, 1U << 20, (5U << 20) + 17, 20U << 20};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    a.wire().send_bulk(1, i, text_bytes("from a"), patterned(sizes[i], i));
    b.wire().send_bulk(0, i, text_bytes(i % 2 == 0 ? "" : "from b"), patterned(sizes[i], 100 + i));
  }
  const auto all = [&](const auto& n) { return n.sent.size() >= sizes.size() && n.bulks.size() >= sizes.size(); };
  BOOST_REQUIRE(a.wait(all));
  BOOST_REQUIRE(b.wait(all));
  for (const auto& [notes, seed] : {std::pair(a.now(), std::size_t{100}), {b.now(), 0}})
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const auto found = std::find_if(notes.bulks.begin(), notes.bulks.end(), [&](const auto& m) { return m.payload->size() == sizes[i]; });
      BOOST_TEST_REQUIRE((found != notes.bulks.end()));
      BOOST_TEST(same_bytes(found->payload, patterned(sizes[i], seed + i)));
    }
}

bool comes_true(const std::function<bool()>& what) {
  for (int i = 0; i < 500; ++i, std::this_thread::sleep_for(10ms))
    if (what()) return true;
  return false;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tcp_bulk)

BOOST_AUTO_TEST_CASE(bulk_messages_go_over_connections_of_our_own) {
  for (const bool sealed : {true, false}) {
    probe a(over_tcp(0, sealed)), b(over_tcp(1, sealed));
    keep_each_other(a, 0, b, 1);
    BOOST_REQUIRE(a.wait_up() && b.wait_up());
    exchange(a, b);
    BOOST_TEST(listening_addresses().size() == 2U);  // no port but the two sites' own
    const auto counted = a.wire().counters(1);
    BOOST_TEST(counted.bulk_bytes_out > counted.payload_bytes_out);
    BOOST_TEST((counted.reconnects == 0 && counted.forged == 0 && counted.bytes_in_flight == 0));
  }
}

BOOST_AUTO_TEST_CASE(either_end_may_ask_for_it) {
  for (const bool dialling : {true, false}) {
    auto of_a = over_tcp(0), of_b = over_tcp(1);
    (dialling ? of_a : of_b).bulk_over_tcp = false;
    probe a(of_a), b(of_b);
    keep_each_other(a, 0, b, 1);
    BOOST_REQUIRE(a.wait_up() && b.wait_up());
    exchange(a, b);
    BOOST_TEST(comes_true([] { return listening_addresses().size() == 2U; }));
  }
}

BOOST_AUTO_TEST_CASE(links_end_and_come_back_and_nothing_is_left_of_them) {
  probe a(over_tcp(0));
  a.wire().keep(1, "");
  const auto before = resources_now();
  for (std::size_t round = 1; round <= 3; ++round) {
    probe b(over_tcp(1));
    b.wire().keep(0, a.wire().address());
    BOOST_REQUIRE(b.wait_up() && a.wait_up(round));
    b.wire().send_bulk(0, 1, text_bytes("h"), patterned(64U << 20, 1));  // under way when it ends
    if (round == 2) {
      a.wire().close(1, {errc::timed_out, "a test"});
      BOOST_REQUIRE(b.wait_down() && b.wait_up(2) && a.wait_up(round + 1));
      a.wire().forget(1);
      a.wire().keep(1, "");
      break;
    }
  }
  BOOST_TEST(comes_true([&] { return resources_now().descriptors <= before.descriptors; }));
}

BOOST_AUTO_TEST_CASE(a_site_that_can_only_dial_out_dials_those_that_would_dial_it) {
  auto of_a = over_tcp(0), of_b = over_tcp(1);
  of_a.outward = of_b.outward = {0};
  probe a(of_a), b(of_b);
  a.wire().keep(1, b.wire().address());
  b.wire().keep(0, "10.0.0.77:9");  // nobody could call there
  BOOST_REQUIRE(a.wait_up() && b.wait_up());
  exchange(a, b);
}

BOOST_AUTO_TEST_CASE(a_claim_of_a_link_that_is_not_there_is_refused) {
  auto options = over_tcp(0, false);
  options.greeting_timeout = 500ms;
  probe a(options);
  a.wire().keep(1, "");
  for (const std::size_t bytes : {9U, 8U, 0U, 300U}) {
    stranger s(a.wire().address());
    s.say(control_kind::bulk, std::vector<std::byte>(bytes, std::byte{1}));
    BOOST_REQUIRE(s.is_closed());
  }
  BOOST_REQUIRE(a.wait([](const auto& n) { return lines_with(n, "a bulk connection") >= 4; }));
  probe b(over_tcp(1, false));
  b.wire().keep(0, a.wire().address());
  BOOST_REQUIRE(b.wait_up() && a.wait_up());
}

BOOST_AUTO_TEST_CASE(the_window_follows_what_is_set) {
  bulk_sender sender(1000, 8000);
  sender.push(1, make_shared_bytes({}), patterned(100'000, 1));
  const time_point now{1s};
  const auto takes = [&] {
    int chunks = 0;
    while (sender.next(now)) ++chunks;
    return chunks;
  };
  BOOST_TEST(takes() == 8);
  sender.set_window(3000);  // what is under way stays so
  for (std::uint64_t i = 0; i < 5; ++i) BOOST_TEST_REQUIRE(bool(sender.acknowledge(1, i * 1000, now)));
  BOOST_TEST(takes() == 0);
  BOOST_TEST_REQUIRE(bool(sender.acknowledge(1, 5000, now)));
  BOOST_TEST(takes() == 1);
  sender.set_window(9000);
  BOOST_TEST(takes() == 6);
  BOOST_CHECK_THROW(sender.set_window(999), contract_error);
}

BOOST_AUTO_TEST_SUITE_END()

namespace {

bool can_lay_wires() { return ::geteuid() == 0 && bench::run_program("nft --version") && ::access("/proc/self/ns/net", R_OK) == 0; }

/// transport_peer in a namespace that lets nobody in, site `peer`; we are `self`. A net of its own each time: the kernel takes a while to
/// clear away a wire.
void reaches_us(site_id peer) {
  const site_id self = 1 - peer;
  const int net = 79 + static_cast<int>(peer);
  const std::string ours = "10." + std::to_string(net) + ".0.1:7000", theirs = "10." + std::to_string(net) + ".0.2:7001";
  auto guest = bench::guest::start([=] {
    ::setenv("ISTHMUS_TEST_SEALED", "1", 1);
    ::setenv("ISTHMUS_TEST_OUTWARD", "1", 1);
    int in[2];
    if (::pipe(in) != 0) return;  // its input stays open as long as it lives
    ::dup2(in[0], 0);
    ::dup2(::open("/dev/null", O_WRONLY), 1);
    ::execl(TRANSPORT_PEER, TRANSPORT_PEER, std::to_string(peer).c_str(), "1", theirs.c_str(), std::to_string(self).c_str(), ours.c_str(),
            static_cast<char*>(nullptr));
  });
  BOOST_TEST_REQUIRE(bool(guest));
  const auto laid = bench::lay_wire(*guest, net, 0);
  BOOST_TEST_REQUIRE(bool(laid), (laid ? "" : laid.error().message));
  for (const char* line : {"nft add table inet wall", "nft add chain inet wall input '{ type filter hook input priority 0; }'",
                           "nft add rule inet wall input tcp flags '&' '(syn|ack)' == syn drop"}) {
    const auto ok = bench::run_program(line, guest->id());
    BOOST_TEST_REQUIRE(bool(ok), (ok ? line : ok.error().message));
  }
  auto options = options_of(self);
  options.keys = keys_of(self);
  options.listen = ours;
  options.outward = {peer};
  probe us(options);
  us.wire().keep(peer, theirs);
  guest->go();
  BOOST_TEST_REQUIRE(us.wait_up());
  const auto payload = patterned(9U << 20, 4);
  us.wire().send_bulk(peer, 1, text_bytes("h"), payload);
  BOOST_TEST_REQUIRE(us.wait([](const auto& n) { return n.bulks.size() == 1; }));  // it sends back what it hears
  BOOST_TEST(same_bytes(us.now().bulks.front().payload, payload));
}

}  // namespace

// In a process of its own, which leaves the network it was started in.
BOOST_AUTO_TEST_SUITE(behind_a_wall, *boost::unit_test::disabled())

BOOST_AUTO_TEST_CASE(a_site_that_nobody_can_call_is_reached_over_tcp) {
  if (!can_lay_wires()) {
    BOOST_TEST_MESSAGE("SKIPPED, it needs root and nft (nftables)");
    return;
  }
  BOOST_TEST_REQUIRE(bool(bench::leave_the_network()));
  reaches_us(1);
  reaches_us(0);
}

BOOST_AUTO_TEST_SUITE_END()
