#include "framework/transport/control_connection.hpp"
#include "framework/transport/address.hpp"
#include "framework/transport/greeting.hpp"
#include "framework/transport/ucx_worker.hpp"
#include "framework/core/rng.hpp"
#include "tests/framework/transport/child.hpp"
#include "tests/framework/transport/probe.hpp"
#include "tests/framework/transport/stranger.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <list>
#include <thread>

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(hostile_control)

namespace {

ucx_transport_options hasty() {
  auto o = options_of(0);
  o.greeting_timeout = o.frame_timeout = 500ms;
  return o;
}

greeting greeting_of(site_id site) {
  greeting g;
  g.hello = options_of(site).hello;
  g.to = 0;
  g.link_token = 77;
  return g;
}

/// A good peer still gets in.
void check_alive(probe& a) {
  const std::size_t ups = a.now().ups.size();
  a.wire().keep(9, "");
  probe good(options_of(9));
  good.wire().keep(0, a.wire().address());
  BOOST_REQUIRE(good.wait_up() && a.wait_up(ups + 1));
  good.wire().send_bulk(0, 1, text_bytes("h"), patterned(1U << 20, 1));
  BOOST_REQUIRE(good.wait([](const auto& n) { return n.sent.size() == 1; }));
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_no_greeting_is_refused_and_logged_once) {
  probe a(hasty());
  const auto refused = [&](auto say, const std::string& reason) {
    const std::size_t had = a.now().log.size();
    stranger s(a.wire().address());
    say(s);
    BOOST_REQUIRE_MESSAGE(s.is_closed(), reason);
    BOOST_REQUIRE(a.wait([&](const auto& n) { return n.log.size() > had; }));
    const auto notes = a.now();
    BOOST_TEST(notes.log.size() == had + 1);
    BOOST_TEST(notes.log.back().find(reason) != std::string::npos, notes.log.back() << " lacks " << reason);
  };
  refused([](stranger& s) { s.say("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); }, "as text: 'GET '");
  refused([](stranger& s) { s.say("SSH-2.0-OpenSSH_9.2p1\r\n"); }, "too_large");
  refused([](stranger& s) { s.say(std::string("\xff\xff\xff\xff\x01", 5)); }, "a length of 4294967295");
  refused([](stranger& s) { s.say(std::string(8, '\0')); }, "its length is 0");
  refused(
      [](stranger& s) {
        s.say(
            std::string("\x05\0\0\0\x7f"
                        "abcd",
                        9));
      },
      "unknown kind 127");
  refused(
      [](stranger& s) {
        s.say(
            std::string("\x20\0\0\0\x01"
                        "abc",
                        8));
      },
      "no greeting within");  // half a frame, then silence
  refused([](stranger&) {}, "no greeting within");
  refused([](stranger& s) { s.say(control_kind::message, {}); }, "before admission");
  refused([](stranger& s) { s.say(control_kind::ready, {}); }, "before admission");
  refused([](stranger& s) { s.say(control_kind::greeting, {}); }, "does not begin with ITHM");
  refused([](stranger& s) { s.say(control_kind::greeting, patterned(1000, 3)->bytes()); }, "does not begin with ITHM");
  refused([](stranger& s) { s.say(control_kind::greeting, patterned(5000, 3)->bytes()); }, "a length of 5001");
  const auto whole_greeting = write_greeting(greeting_of(1));
  refused([&](stranger& s) { s.say(control_kind::greeting, std::span(whole_greeting).first(55)); }, "do not fit its fields");
  refused(
      [](stranger& s) {
        auto g = greeting_of(1);
        g.worker_address.assign(1, std::byte{1});
        s.say(control_kind::greeting, write_greeting(g));
      },
      "UCX worker address: 1 bytes");
  refused([](stranger& s) { s.say(control_kind::greeting, write_greeting(greeting_of(0))); }, "which is what we are");
  refused(
      [](stranger& s) {
        const auto whole = write_greeting(greeting_of(1));
        s.say(std::string("\x80\0\0\0\x01", 5));  // a byte at a time: the deadline is the greeting's, not the byte's
        for (int i = 0; i < 20; ++i) {
          s.say(std::span(whole).subspan(static_cast<std::size_t>(i), 1));
          std::this_thread::sleep_for(50ms);
        }
      },
      "no greeting within");
  check_alive(a);
}

BOOST_AUTO_TEST_CASE(random_bytes_do_no_harm) {
  probe a(hasty());
  a.wire().keep(1, "");
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    rng draws(seed, 0, 0, draw::network);
    stranger s(a.wire().address());
    if (seed % 2 == 0) {
      s.say(patterned(1 + draws.below(3000), seed)->bytes());
    } else {
      auto g = write_greeting(greeting_of(1));
      g[draws.below(g.size())] = static_cast<std::byte>(draws.next());
      s.say(control_kind::greeting, g);
    }
  }
  check_alive(a);
}

BOOST_AUTO_TEST_CASE(worker_addresses_that_are_none_do_no_harm) {
  const auto host = *parse_address("127.0.0.1:0");
  const auto ucx = std::move(*ucx_context::make("lo", host.host()));
  const auto one = std::move(*ucx_worker::make(*ucx, [](auto, auto) { return std::optional<ucx_worker::place>(); }));
  BOOST_TEST(bool(ucx->check_address(one->address(), host.host())));

  probe a(hasty());
  a.wire().keep(1, "");
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    rng draws(seed, 0, 0, draw::network);
    auto g = greeting_of(1);
    const auto noise = patterned(seed == 0 ? 0 : draws.below(500), seed);
    g.worker_address.assign(noise->bytes().begin(), noise->bytes().end());
    if (seed % 2 == 1) {  // a good one but for a bit; where that is the worker's id or port, the address is good again, of nobody
      g.worker_address.assign(one->address().begin(), one->address().end());
      g.worker_address[draws.below(g.worker_address.size())] ^= static_cast<std::byte>(1U << draws.below(8));
    }
    stranger s(a.wire().address());
    s.say(control_kind::greeting, write_greeting(g));
    s.say(control_kind::ready, {});
    s.say(control_kind::goodbye, {});
    BOOST_REQUIRE(s.is_closed());
  }
  check_alive(a);
}

BOOST_AUTO_TEST_CASE(two_hundred_connections_that_say_nothing_keep_nobody_out) {
  auto options = options_of(0);
  options.unadmitted_max = 100;
  probe a(options);
  std::list<stranger> crowd;
  for (int i = 0; i < 200; ++i) crowd.emplace_back(a.wire().address());
  check_alive(a);
  BOOST_REQUIRE(a.wait([](const auto& n) { return lines_with(n, "have not said who they are") > 0; }));
  BOOST_TEST(a.now().log.size() <= 45U);  // a flood does not fill the log
}

BOOST_AUTO_TEST_CASE(a_process_without_free_descriptors_waits_and_then_accepts_again) {
  child busy(0, 1, "127.0.0.1:0", 9, "");
  const auto limit = [&](rlim_t descriptors) {
    rlimit now{};
    BOOST_REQUIRE(::prlimit(busy.id(), RLIMIT_NOFILE, nullptr, &now) == 0);
    now.rlim_cur = descriptors;
    BOOST_REQUIRE(::prlimit(busy.id(), RLIMIT_NOFILE, &now, nullptr) == 0);
  };
  const auto seconds_of_cpu = [&] {
    clockid_t clock{};
    timespec used{};
    BOOST_REQUIRE(::clock_getcpuclockid(busy.id(), &clock) == 0 && ::clock_gettime(clock, &used) == 0);
    return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
  };
  limit(3);  // of those that are open none is closed, and none is left
  const stranger waiting(busy.address());
  std::this_thread::sleep_for(300ms);
  const double before = seconds_of_cpu();
  std::this_thread::sleep_for(1500ms);
  BOOST_TEST(seconds_of_cpu() - before < 0.1);
  limit(1024);
  probe good(options_of(9));
  good.wire().keep(0, busy.address());
  BOOST_TEST(good.wait_up());
}

BOOST_AUTO_TEST_SUITE_END()
