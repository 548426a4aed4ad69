#include "framework/transport/address.hpp"
#include "tests/framework/transport/keys.hpp"
#include "tests/framework/transport/probe.hpp"

#include <boost/test/unit_test.hpp>

using namespace isthmus;

BOOST_AUTO_TEST_SUITE(address)

BOOST_AUTO_TEST_CASE(addresses_read_and_write) {
  for (const std::string text : {"127.0.0.1:0", "127.0.0.5:65535", "10.1.2.3:80", "[::1]:7000", "[fd00::1]:1"}) {
    const auto parsed = parse_address(text);
    BOOST_REQUIRE(parsed);
    BOOST_TEST(parsed->text() == text);
  }
  BOOST_TEST(parse_address("localhost:80")->text() == "127.0.0.1:80");
  for (const std::string text : {"", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:80x", "127.0.0.1: 80",
                                 "127.0.0:1", "example.org:80", "::1:80", "[::1:80", "[]:80", "300.0.0.1:80"}) {
    const auto parsed = parse_address(text);
    BOOST_REQUIRE_MESSAGE(!parsed, text);
    BOOST_TEST((parsed.error().code == errc::environment));
    BOOST_TEST(parsed.error().message.find("'" + text + "'") != std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(only_loopback_may_be_used_by_links_without_keys) {
  const auto allowed = [](const std::string& text, bool test_network) {
    return check_allowed(*parse_address(text), {.sealed = false, .test_network = test_network});
  };
  for (const bool test_network : {false, true}) {
    BOOST_TEST(bool(allowed("127.0.0.1:1", test_network)));
    BOOST_TEST(bool(allowed("127.9.9.9:1", test_network)));
    BOOST_TEST(bool(allowed("[::1]:1", test_network)));
    for (const std::string text : {"0.0.0.0:1", "8.8.8.8:1", "128.0.0.1:1", "[::]:1", "[2001:db8::1]:1", "[::ffff:127.0.0.1]:1"}) {
      const auto outcome = allowed(text, test_network);
      BOOST_REQUIRE_MESSAGE(!outcome, text);
      BOOST_TEST((outcome.error().code == errc::environment));
      BOOST_TEST(outcome.error().message.find("links without keys may use loopback") != std::string::npos);
    }
  }
  BOOST_TEST(!allowed("10.0.0.1:1", false));  // with `true` it depends on the namespace the test runs in
  BOOST_TEST(!allowed("192.168.1.1:1", false));
}

BOOST_AUTO_TEST_CASE(sealed_links_may_use_private_addresses_too_and_no_others) {
  const auto allowed = [](const std::string& text) { return check_allowed(*parse_address(text), {.sealed = true, .test_network = false}); };
  for (const std::string text : {"127.0.0.1:1", "[::1]:1", "10.0.0.1:1", "10.255.255.255:1", "172.16.0.1:1", "172.31.255.1:1",
                                 "192.168.1.1:1", "[fd00::1]:1", "[fc00::1]:1"})
    BOOST_TEST(bool(allowed(text)), text);
  for (const std::string text : {"0.0.0.0:1", "8.8.8.8:1", "11.0.0.1:1", "172.15.0.1:1", "172.32.0.1:1", "192.169.1.1:1", "169.254.1.1:1",
                                 "[::]:1", "[fe80::1]:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1"}) {
    const auto outcome = allowed(text);
    BOOST_REQUIRE_MESSAGE(!outcome, text);
    BOOST_TEST((outcome.error().code == errc::environment));
    BOOST_TEST(outcome.error().message.find("loopback (") != std::string::npos, outcome.error().message);
    BOOST_TEST(outcome.error().message.find("private addresses (") != std::string::npos, outcome.error().message);
  }
}

BOOST_AUTO_TEST_CASE(a_transport_neither_binds_nor_dials_elsewhere) {
  const real_clock time;
  const auto code = [&](auto change) {
    auto options = testing::options_of(1);
    change(options);
    const auto made = make_ucx_transport(options, time);
    return made ? errc::ok : made.error().code;
  };
  BOOST_TEST((code([](auto& o) { o.listen = "0.0.0.0:0"; }) == errc::environment));
  BOOST_TEST((code([](auto& o) { o.listen = "nonsense"; }) == errc::environment));
  BOOST_TEST((code([](auto& o) { o.endpoints = 0; }) == errc::usage));
  BOOST_TEST((code([](auto& o) { o.chunk_bytes = 100; }) == errc::usage));
  BOOST_TEST((code([](auto& o) { o.window_bytes = 1; }) == errc::usage));
  testing::probe a(testing::options_of(1));
  BOOST_TEST((code([&](auto& o) { o.listen = a.wire().address(); }) == errc::environment));  // in use
  a.wire().keep(0, "8.8.8.8:53");
  BOOST_REQUIRE(a.wait_down());
  BOOST_TEST((a.now().downs[0].second.code == errc::environment));
  auto with_keys = testing::options_of(1);
  with_keys.keys = testing::keys_of(1);
  testing::probe b(with_keys);
  b.wire().keep(0, "8.8.8.8:53");
  BOOST_REQUIRE(b.wait_down());
  with_keys.listen = "0.0.0.0:0";
  BOOST_TEST(!make_ucx_transport(with_keys, time));
}

BOOST_AUTO_TEST_SUITE_END()
