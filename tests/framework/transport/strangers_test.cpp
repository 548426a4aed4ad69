#include "framework/core/rng.hpp"
#include "framework/transport/greeting.hpp"
#include "framework/transport/handshake.hpp"
#include "tests/framework/transport/keys.hpp"
#include "tests/framework/transport/probe.hpp"
#include "tests/framework/transport/stranger.hpp"

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <list>
#include <thread>

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;

namespace {

ucx_transport_options sealed(site_id site) {
  auto o = options_of(site);
  o.keys = keys_of(site);
  return o;
}

ucx_transport_options hasty() {
  auto o = sealed(0);
  o.greeting_timeout = 500ms;
  return o;
}

std::vector<std::byte> good_hello() {
  const auto keys = keys_of(1);
  return *caller(*keys, "test-run", 1, 0).hello();
}

void check_alive(probe& a) {
  const std::size_t ups = a.now().ups.size();
  a.wire().keep(9, "");
  probe good(sealed(9));
  good.wire().keep(0, a.wire().address());
  BOOST_REQUIRE(good.wait_up() && a.wait_up(ups + 1));
  good.wire().send_bulk(0, 1, text_bytes("h"), patterned(1U << 20, 1));
  BOOST_REQUIRE(good.wait([](const auto& n) { return n.sent.size() == 1; }));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(strangers)

BOOST_AUTO_TEST_CASE(who_shows_no_key_hears_nothing) {
  probe a(hasty());
  a.wire().keep(1, "");
  const auto meets_silence = [&](auto say) {
    stranger s(a.wire().address());
    say(s);
    BOOST_REQUIRE(s.is_closed());
    BOOST_TEST(s.heard().empty());
  };
  meets_silence([](stranger& s) { s.say("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); });
  meets_silence([](stranger& s) { s.say("SSH-2.0-OpenSSH_9.2p1\r\n"); });
  meets_silence([](stranger& s) { s.say(std::string("\xff\xff\xff\xff\x0a", 5)); });
  meets_silence([](stranger& s) { s.say(std::string(8, '\0')); });
  meets_silence([](stranger&) {});
  meets_silence([](stranger& s) { s.say(std::string("\x49\0\0\0\x0aISH1", 9)); });  // half a hello, then silence
  greeting g;
  g.hello = options_of(1).hello;
  meets_silence([&](stranger& s) { s.say(control_kind::greeting, write_greeting(g)); });
  for (const auto kind : {control_kind::refusal, control_kind::answer, control_kind::confirm, control_kind::ready, control_kind::goodbye})
    meets_silence([&](stranger& s) { s.say(kind, std::vector<std::byte>(40)); });
  meets_silence([](stranger& s) { s.say(control_kind::hello, std::vector<std::byte>(hello_bytes)); });
  meets_silence([](stranger& s) { s.say(control_kind::hello, std::vector<std::byte>(hello_bytes + 1)); });
  meets_silence([](stranger& s) { s.say(control_kind::hello, patterned(5000, 1)->bytes()); });
  meets_silence([](stranger& s) {
    const auto hello = good_hello();
    s.say(std::string("\x49\0\0\0\x0a", 5));
    for (std::size_t i = 0; i < 20; ++i) {  // a byte at a time: the deadline is the handshake's, not the byte's
      s.say(std::span(hello).subspan(i, 1));
      std::this_thread::sleep_for(50ms);
    }
  });
  BOOST_TEST(a.now().log.size() <= 4U);  // one line a kind of trouble and minute
  check_alive(a);
}

BOOST_AUTO_TEST_CASE(a_hello_and_then_anything_else_gets_an_answer_and_no_more) {
  probe a(hasty());
  a.wire().keep(1, "");
  const auto ends = [&](auto say) {
    stranger s(a.wire().address());
    s.say(control_kind::hello, good_hello());
    say(s);
    BOOST_REQUIRE(s.is_closed());
    BOOST_TEST((s.heard().empty() || s.heard().size() == 5 + answer_bytes));  // it may be refused before the answer leaves
  };
  ends([](stranger&) {});
  ends([](stranger& s) { s.say(control_kind::hello, good_hello()); });
  ends([](stranger& s) { s.say(control_kind::confirm, std::vector<std::byte>(confirm_bytes)); });
  ends([](stranger& s) { s.say(control_kind::confirm, {}); });
  ends([](stranger& s) { s.say(control_kind::answer, std::vector<std::byte>(answer_bytes)); });
  ends([](stranger& s) { s.say(control_kind::greeting, std::vector<std::byte>(70)); });
  BOOST_TEST(a.now().ups.empty());
  check_alive(a);
}

BOOST_AUTO_TEST_CASE(random_bytes_and_hellos_with_a_wrong_bit_do_no_harm) {
  auto options = hasty();
  options.handshakes_burst = 1000;
  probe a(options);
  a.wire().keep(1, "");
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    rng draws(seed, 0, 0, draw::network);
    stranger s(a.wire().address());
    if (seed % 2 == 0) {
      s.say(patterned(1 + draws.below(3000), seed)->bytes());
    } else {
      auto hello = good_hello();
      hello[draws.below(hello.size())] ^= static_cast<std::byte>(1U << draws.below(8));
      s.say(control_kind::hello, hello);
    }
  }
  check_alive(a);
}

BOOST_AUTO_TEST_CASE(connections_that_show_no_key_keep_nobody_out) {
  auto options = sealed(0);
  options.unadmitted_max = 100;
  probe a(options);
  std::list<stranger> crowd;
  for (int i = 0; i < 300; ++i) {
    crowd.emplace_back(a.wire().address());
    if (i % 3 == 0) crowd.back().say(control_kind::hello, std::vector<std::byte>(hello_bytes - 1));
  }
  check_alive(a);
  BOOST_TEST(a.now().log.size() <= 45U);
}

BOOST_AUTO_TEST_CASE(an_address_whose_handshakes_come_to_nothing_is_not_listened_to_for_a_while) {
  auto options = hasty();
  options.handshakes_burst = 5;
  options.handshakes_per_second = 4;
  probe a(options);
  std::size_t answered = 0;
  for (int i = 0; i < 30; ++i) {
    stranger s(a.wire().address());
    s.say(control_kind::hello, good_hello());
    answered += s.hears(5 + answer_bytes) ? 1 : 0;
  }
  BOOST_TEST((answered >= 5U && answered < 30U), answered);
  BOOST_TEST(lines_with(a.now(), "too many from this address") == 1U);
  check_alive(a);  // dials until it is heard
}

BOOST_AUTO_TEST_SUITE_END()
