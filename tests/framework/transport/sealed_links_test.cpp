#include "tests/framework/transport/keys.hpp"
#include "tests/framework/transport/middleman.hpp"
#include "tests/framework/transport/probe.hpp"
#include "tests/framework/transport/stranger.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>
#include <utility>

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;
using from = middleman::from;

namespace {

constexpr std::size_t frame_front = 5, hello_frame = frame_front + hello_bytes, answer_frame = frame_front + answer_bytes,
                      confirm_frame = frame_front + confirm_bytes;

ucx_transport_options sealed(site_id site, incarnation_number incarnation = 1) {
  auto o = options_of(site, incarnation);
  o.keys = keys_of(site);
  return o;
}

ucx_transport_options persistent(site_id site) {
  auto o = sealed(site);
  o.back_off_min = o.back_off_max = 1ms;
  o.handshakes_burst = 1e6;
  o.greeting_timeout = 500ms;
  return o;
}

/// Site 1 dials site 0 through somebody.
struct intercepted {
  explicit intercepted(middleman::meddle change = [](middleman::passing&) {}) : between(a.wire().address(), std::move(change)) {
    a.wire().keep(1, "");
    b.wire().keep(0, between.address());
  }
  bool up() { return a.wait_up() && b.wait_up(); }
  probe a{persistent(0)}, b{persistent(1)};
  middleman between;
};

bool contains(const std::vector<std::byte>& all, const std::string& words) {
  const auto some = std::as_bytes(std::span(words.data(), words.size()));
  return std::search(all.begin(), all.end(), some.begin(), some.end()) != all.end();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(sealed_links)

BOOST_AUTO_TEST_CASE(nothing_that_is_said_can_be_read_on_the_way) {
  intercepted i;
  BOOST_REQUIRE(i.up());
  BOOST_TEST((i.a.now().ups.at(0) == std::pair<site_id, incarnation_number>{1, 1}));
  i.b.wire().send_control(0, text_bytes("do you read me"));
  i.a.wire().send_control(1, text_bytes("loud and clear"));
  i.b.wire().send_bulk(0, 1, text_bytes("header"), patterned(3U << 20, 1));
  i.a.wire().send_bulk(1, 1, text_bytes("header"), patterned(5U << 20, 2));
  const auto heard = [](const auto& n) { return n.controls.size() == 1 && n.bulks.size() == 1 && n.sent.size() == 1; };
  BOOST_REQUIRE(i.a.wait(heard) && i.b.wait(heard));
  BOOST_TEST(same_bytes(i.a.now().controls[0].second, text_bytes("do you read me")));
  BOOST_TEST(same_bytes(i.b.now().controls[0].second, text_bytes("loud and clear")));
  BOOST_TEST(same_bytes(i.a.now().bulks[0].payload, patterned(3U << 20, 1)));
  BOOST_TEST(same_bytes(i.b.now().bulks[0].payload, patterned(5U << 20, 2)));
  BOOST_TEST(i.a.wire().counters(1).payload_bytes_in == 3U << 20);
  BOOST_TEST((i.a.wire().counters(1).forged == 0U && i.b.wire().counters(0).forged == 0U));
  for (const auto side : {from::caller, from::called}) {
    const auto said = i.between.said(side);
    BOOST_TEST(said.size() > 200U);
    for (const auto* words : {"do you read me", "loud and clear", "test-run", "ITHM"}) BOOST_TEST(!contains(said, words), words);
  }
}

BOOST_AUTO_TEST_CASE(a_change_of_any_byte_of_the_handshake_keeps_the_link_down) {
  constexpr std::size_t cases = hello_frame + answer_frame + confirm_frame;
  std::set<std::size_t> changed;
  intercepted i([&](middleman::passing& p) {
    std::size_t k = p.connection;  // one byte a connection; both messages of the caller lie behind one another
    auto side = from::caller;
    if (k >= hello_frame + confirm_frame) {
      k -= hello_frame + confirm_frame;
      side = from::called;
    }
    if (p.connection >= cases || p.side != side || k < p.offset || k >= p.offset + p.bytes.size()) return;
    p.bytes[k - p.offset] ^= std::byte{1};
    changed.insert(p.connection);
  });
  BOOST_REQUIRE(i.up());
  BOOST_TEST(changed.size() == cases);
  BOOST_TEST(i.between.connections() == cases);  // the first that came up is the one that nobody touched
  BOOST_TEST((i.a.now().ups.size() == 1U && i.b.now().ups.size() == 1U && i.a.now().downs.empty() && i.b.now().downs.empty()));
}

BOOST_AUTO_TEST_CASE(a_change_of_any_byte_of_the_greetings_keeps_the_link_down) {
  constexpr std::size_t cases = 60;
  intercepted i([&](middleman::passing& p) {
    const auto side = p.connection % 2 == 0 ? from::caller : from::called;
    const std::size_t at = (side == from::caller ? hello_frame + confirm_frame : answer_frame) + p.connection;
    if (p.connection < cases && p.side == side && at >= p.offset && at < p.offset + p.bytes.size()) p.bytes[at - p.offset] ^= std::byte{1};
  });
  BOOST_REQUIRE(i.up());
  BOOST_TEST(i.between.connections() == cases);
  BOOST_TEST(i.a.wire().counters(1).forged + i.b.wire().counters(0).forged > cases / 2);  // the others changed a length
}

BOOST_AUTO_TEST_CASE(a_recorded_connection_is_of_no_use_again) {
  std::vector<std::byte> recorded;
  {
    intercepted i;
    BOOST_REQUIRE(i.up());
    i.b.wire().send_control(0, text_bytes("pay"));
    BOOST_REQUIRE(i.a.wait([](const auto& n) { return n.controls.size() == 1; }));
    recorded = i.between.said(from::caller);
  }
  auto options = sealed(0);
  options.greeting_timeout = 500ms;
  probe a(options);
  a.wire().keep(1, "");
  for (const std::size_t part : {recorded.size(), hello_frame, hello_frame + confirm_frame, hello_frame + 10}) {
    stranger replayer(a.wire().address());
    replayer.say(std::span(recorded).first(part));
    BOOST_REQUIRE(replayer.is_closed());
    // An answer that only the key's owner can read, if it left before the rest was refused, and nothing after it.
    BOOST_TEST((replayer.heard().size() == answer_frame || (part > hello_frame + 10 && replayer.heard().empty())));
  }
  BOOST_TEST((a.now().ups.empty() && a.now().controls.empty()));
  BOOST_TEST(lines_with(a.now(), "the last message does not open") == 1U);
}

BOOST_AUTO_TEST_CASE(a_stream_that_is_cut_is_told_from_one_that_ends) {
  intercepted i;
  BOOST_REQUIRE(i.up());
  i.between.cut();
  BOOST_REQUIRE(i.a.wait_down() && i.b.wait_down());
  for (auto* end : {&i.a, &i.b}) {
    const error why = end->now().downs.at(0).second;
    BOOST_TEST((why.code == errc::disconnected));
    // Where the middleman had bytes that it had not read, TCP resets instead of ending.
    const bool was_reset = why.message.find("Connection reset by peer") != std::string::npos;
    BOOST_TEST((was_reset || why.message.find("the connection was cut") != std::string::npos), why.message);
  }
  BOOST_REQUIRE(i.a.wait_up(2) && i.b.wait_up(2));
  i.b.wire().stop();
  BOOST_REQUIRE(i.a.wait_down(2));
  BOOST_TEST(i.a.now().downs.at(1).second.message.find("said goodbye") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(frames_that_are_changed_doubled_dropped_or_swapped_end_the_link) {
  enum class trick { none, change, twice, drop, swap };
  std::atomic<trick> next = trick::none;
  std::vector<std::byte> held;
  intercepted i([&](middleman::passing& p) {
    if (p.side != from::caller || p.bytes.size() < 50) return;  // the message, not a ping or an acknowledgement
    if (!held.empty()) return p.bytes.insert(p.bytes.end(), held.begin(), held.end()), held.clear();
    switch (next.exchange(trick::none)) {
      case trick::none: break;
      case trick::change: p.bytes[40] ^= std::byte{0x10}; break;
      case trick::twice: p.bytes.insert(p.bytes.end(), p.bytes.begin(), p.bytes.end()); break;
      case trick::drop: p.bytes.clear(); break;
      case trick::swap: {
        const auto first = std::to_integer<std::ptrdiff_t>(p.bytes[0]) + 256 * std::to_integer<std::ptrdiff_t>(p.bytes[1]) + 4;
        if (first >= std::ssize(p.bytes))
          held = std::exchange(p.bytes, {});  // alone in its packet: it goes behind the next one
        else
          std::rotate(p.bytes.begin(), p.bytes.begin() + first, p.bytes.end());
        break;
      }
    }
  });
  std::size_t round = 0;
  for (const auto one : {trick::change, trick::twice, trick::drop, trick::swap}) {
    ++round;
    BOOST_REQUIRE(i.a.wait_up(round) && i.b.wait_up(round));
    std::this_thread::sleep_for(50ms);  // ready and acknowledgements are through
    const std::size_t heard = i.a.now().controls.size();
    next = one;
    for (int k = 0; k < 3; ++k) i.b.wire().send_control(0, text_bytes("message number " + std::to_string(k) + " of this round, padded"));
    BOOST_REQUIRE(i.a.wait_down(round) && i.b.wait_down(round));
    const error why = i.a.now().downs.back().second;
    BOOST_TEST((why.code == errc::checksum_mismatch), static_cast<int>(one) << ": " << why.message);
    BOOST_TEST(i.a.wire().counters(1).forged == round);
    BOOST_TEST(i.a.now().controls.size() <= heard + 3);
  }
}

BOOST_AUTO_TEST_CASE(only_who_is_in_the_roster_with_its_key_comes_up) {
  const auto meets = [](std::shared_ptr<const link_keys> of_a, std::shared_ptr<const link_keys> of_b, const std::string& run_of_b,
                        const std::string& told_at_b) {
    auto for_a = options_of(0), for_b = options_of(1);
    const bool a_is_sealed = of_a != nullptr;
    for_a.keys = std::move(of_a);
    for_b.keys = std::move(of_b);
    for_b.hello.run_id = run_of_b;
    for_a.greeting_timeout = for_b.greeting_timeout = 1s;
    probe a(for_a), b(for_b);
    keep_each_other(a, 0, b, 1);
    BOOST_REQUIRE(a.wait([](const auto& n) { return !n.log.empty(); }) && b.wait([](const auto& n) { return !n.log.empty(); }));
    std::this_thread::sleep_for(500ms);  // several dials
    BOOST_TEST(lines_with(b.now(), told_at_b) == 1U, b.now().log.front());
    if (a_is_sealed) BOOST_TEST(a.now().log.size() == 1U);  // however often it calls
    BOOST_TEST((a.now().ups.empty() && b.now().ups.empty() && b.now().refusals.empty()));
  };
  const std::string unanswered = "instead of answering our handshake";
  meets(keys_of(0, {0, 2}), keys_of(1), "test-run", unanswered);
  auto other_one = std::make_shared<link_keys>(link_keys{identity::generate(), keys_of(1)->roster});
  other_one->roster[1] = other_one->own.key();
  meets(keys_of(0), other_one, "test-run", unanswered);
  auto misled = std::make_shared<link_keys>(link_keys{identity::of(seeded_secret(1)), keys_of(1)->roster});
  misled->roster[0] = identity::generate().key();
  meets(keys_of(0), misled, "test-run", unanswered);
  meets(keys_of(0), keys_of(1), "other-run", unanswered);
  if (links_are_sealed()) return;
  meets(keys_of(0), nullptr, "test-run", "site 0 at");
  meets(nullptr, keys_of(1), "test-run", "site 0 at");
}

BOOST_AUTO_TEST_CASE(what_does_not_belong_together_is_told_to_both_once_they_know_each_other) {
  const auto refused = [](errc code, auto change) {
    probe a(sealed(0, 5));
    a.wire().keep(1, "");
    auto options = sealed(1, 5);
    change(options.hello);
    probe b(options);
    b.wire().keep(0, a.wire().address());
    BOOST_REQUIRE(b.wait_refused());
    BOOST_TEST((b.now().refusals[0].second.code == code));
    BOOST_REQUIRE(a.wait([](const auto& n) { return !n.log.empty(); }));
    BOOST_TEST(lines_with(a.now(), std::string(describe(code))) == 1U);
  };
  refused(errc::wrong_version, [](link_hello& h) { h.version = 9; });
  refused(errc::wrong_recipe, [](link_hello& h) { h.recipe_hash = {7, 7}; });
}

BOOST_AUTO_TEST_CASE(keys_that_are_not_ours_do_not_open_a_transport) {
  auto options = options_of(0);
  options.keys = keys_of(1);
  const real_clock time;
  const auto made = make_ucx_transport(options, time);
  BOOST_TEST_REQUIRE(!made);
  BOOST_TEST((made.error().code == errc::environment));
  BOOST_TEST(made.error().message.find("bring them from the same run") != std::string::npos, made.error().message);
}

BOOST_AUTO_TEST_SUITE_END()
