#include "tests/framework/transport/child.hpp"
#include "tests/framework/transport/probe.hpp"

#include <boost/test/unit_test.hpp>

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <thread>

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(faults)

namespace {

constexpr const char* any_port = "127.0.0.1:0";

bool all_sent(probe& p, std::size_t count) {
  return p.wait([=](const auto& n) { return n.sent.size() >= count; });
}

std::size_t failures(const probe::notes& n) {
  return static_cast<std::size_t>(std::count_if(n.sent.begin(), n.sent.end(), [](const auto& s) { return !s.second; }));
}

bool mentions(const std::vector<std::string>& lines, const std::string& text) {
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& l) { return l.find(text) != std::string::npos; });
}

}  // namespace

BOOST_AUTO_TEST_CASE(another_process_echoes_everything) {
  probe a(options_of(0));
  a.wire().keep(1, "");
  child b(1, 1, any_port, 0, a.wire().address());
  BOOST_REQUIRE(a.wait_up());
  const auto control = patterned(100'000, 1);
  a.wire().send_control(1, control);
  const std::vector<std::size_t> sizes{0, 1, 1U << 20, 40U << 20};
  for (const std::size_t size : sizes) a.wire().send_bulk(1, size + 1, text_bytes("h"), patterned(size, size));
  BOOST_REQUIRE(
      a.wait([&](const auto& n) { return n.bulks.size() == sizes.size() && n.controls.size() == 1 && n.sent.size() == sizes.size(); }));
  const auto notes = a.now();
  BOOST_TEST(same_bytes(notes.controls[0].second, control));
  for (const std::size_t size : sizes)
    BOOST_TEST(
        std::any_of(notes.bulks.begin(), notes.bulks.end(), [&](const auto& m) { return same_bytes(m.payload, patterned(size, size)); }));
  const auto counters = a.wire().counters(1);
  const std::uint64_t payload = 1 + (1U << 20) + (40U << 20);
  BOOST_TEST(counters.payload_bytes_out == payload);
  BOOST_TEST(counters.payload_bytes_in == payload);
  BOOST_TEST(counters.bytes_in_flight == 0U);
  BOOST_TEST(static_cast<double>(counters.bulk_bytes_out + counters.control_bytes_out - 100'000) < 1.001 * static_cast<double>(payload));
  BOOST_TEST(counters.send_bytes_per_second > 0);
  BOOST_TEST(b.leave() == 0);
  BOOST_REQUIRE(a.wait_down());
  BOOST_TEST(a.now().downs[0].second.message.find("goodbye") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_peer_killed_in_mid_transfer_is_down_at_once_and_leaves_nothing_behind) {
  probe a(options_of(0));
  a.wire().keep(1, "");
  const auto payload = patterned(40U << 20, 3);
  std::size_t descriptors = 0;
  for (std::size_t round = 1; round <= 4; ++round) {
    child b(1, round, any_port, 0, a.wire().address());
    BOOST_REQUIRE(a.wait_up(round));
    for (std::size_t i = 0; i < 10; ++i) a.wire().send_bulk(1, 100 * round + i, text_bytes("h"), payload);
    BOOST_REQUIRE(a.wait([&](const auto& n) { return n.sent.contains(100 * round); }));
    const auto killed = std::chrono::steady_clock::now();
    b.kill();
    BOOST_REQUIRE(a.wait_down(round));
    BOOST_REQUIRE(all_sent(a, 10 * round));
    BOOST_TEST((std::chrono::steady_clock::now() - killed < 5s));
    BOOST_TEST(failures(a.now()) >= round);
    BOOST_TEST((a.now().downs.back().second.code == errc::disconnected));
    for (int i = 0; i < 100 && payload.use_count() > 1; ++i) std::this_thread::sleep_for(20ms);
    BOOST_TEST(payload.use_count() == 1);
    if (round == 2) descriptors = open_descriptors();
  }
  for (int i = 0; i < 100 && open_descriptors() > descriptors; ++i) std::this_thread::sleep_for(20ms);
  BOOST_TEST(open_descriptors() <= descriptors);
}

BOOST_AUTO_TEST_CASE(a_peer_that_restarts_on_its_port_is_found_again) {
  probe a(options_of(1));
  auto first = std::make_unique<child>(0, 1, any_port, 1, "");
  const std::string address = first->address();
  a.wire().keep(0, address);
  for (incarnation_number incarnation = 1; incarnation <= 3; ++incarnation) {
    BOOST_REQUIRE(a.wait_up(incarnation));
    BOOST_TEST(a.now().ups.back().second == incarnation);
    a.wire().send_bulk(0, incarnation, text_bytes("h"), patterned(3U << 20, incarnation));
    BOOST_REQUIRE(a.wait([&](const auto& n) { return n.bulks.size() == incarnation; }));
    BOOST_TEST(same_bytes(a.now().bulks.back().payload, patterned(3U << 20, incarnation)));
    first.reset();
    BOOST_REQUIRE(a.wait_down(incarnation));
    first = std::make_unique<child>(0, incarnation + 1, address, 1, "");
  }
  BOOST_TEST(a.wire().counters(0).reconnects >= 2U);
}

BOOST_AUTO_TEST_CASE(closing_under_load_fails_what_was_under_way_and_comes_back) {
  probe a(options_of(0)), b(options_of(1));
  keep_each_other(a, 0, b, 1);
  const auto payload = patterned(8U << 20, 3);
  std::uint64_t id = 0;
  for (std::size_t round = 1; round <= 6; ++round) {
    BOOST_REQUIRE(a.wait_up(round) && b.wait_up(round));
    for (int i = 0; i < 8; ++i) {
      a.wire().send_bulk(1, ++id, text_bytes("h"), payload);
      b.wire().send_bulk(0, id, text_bytes("h"), payload);
    }
    probe& closer = round % 2 == 0 ? a : b;
    closer.wire().close(round % 2 == 0 ? 1 : 0, {errc::timed_out, "heartbeats stopped"});
    BOOST_REQUIRE(a.wait_down(round) && b.wait_down(round));
    BOOST_REQUIRE(all_sent(a, id) && all_sent(b, id));
    BOOST_TEST((closer.now().downs.back().second.code == errc::timed_out));
    probe& other = round % 2 == 0 ? b : a;
    BOOST_TEST((other.now().downs.back().second.code == errc::disconnected));
  }
  BOOST_REQUIRE(a.wait_up(7) && b.wait_up(7));
  const std::size_t had = b.now().bulks.size();
  a.wire().send_bulk(1, ++id, text_bytes("after"), payload);
  BOOST_REQUIRE(b.wait([&](const auto& n) { return n.bulks.size() > had; }));
  BOOST_TEST(same_bytes(b.now().bulks.back().payload, payload));
}

BOOST_AUTO_TEST_CASE(a_stopped_peer_gets_a_window_of_bytes_and_no_more) {
  auto options = options_of(0);
  options.window_bytes = 4U << 20;
  options.stall_timeout = 1s;
  probe a(options);
  a.wire().keep(1, "");
  child b(1, 1, any_port, 0, a.wire().address());
  BOOST_REQUIRE(a.wait_up());
  b.signal(SIGSTOP);
  a.wire().send_bulk(1, 1, text_bytes("h"), patterned(32U << 20, 1));
  std::uint64_t most = 0;
  while (a.now().downs.empty()) {
    most = std::max(most, a.wire().counters(1).bytes_in_flight);
    std::this_thread::sleep_for(5ms);
  }
  BOOST_TEST(most == options.window_bytes);
  BOOST_TEST(a.wire().counters(1).payload_bytes_out == options.window_bytes);
  BOOST_TEST((a.now().downs[0].second.code == errc::timed_out));
  BOOST_REQUIRE(all_sent(a, 1));
  BOOST_TEST(failures(a.now()) == 1U);
}

BOOST_AUTO_TEST_CASE(what_does_not_belong_together_is_refused_at_both_ends) {
  const auto refused = [](errc code, const std::string& theirs, const std::string& ours, auto change) {
    probe a(options_of(0, 5));
    a.wire().keep(1, "");
    auto options = options_of(1, 5);
    change(options.hello);
    probe b(options);
    b.wire().keep(0, a.wire().address());
    BOOST_REQUIRE(b.wait_refused());
    const error why = b.now().refusals[0].second;
    BOOST_TEST(b.now().downs.empty());
    BOOST_TEST((why.code == code));
    BOOST_TEST(why.message.find(theirs) != std::string::npos);
    BOOST_TEST(why.message.find(ours) != std::string::npos);
    BOOST_REQUIRE(a.wait([](const auto& n) { return !n.log.empty(); }));
    BOOST_TEST(mentions(a.now().log, std::string(describe(code))));
    BOOST_TEST(mentions(a.now().log, theirs));
    BOOST_TEST(a.now().ups.empty());
  };
  if (!links_are_sealed())  // sealed, a peer of another run cannot show who it is (sealed_links_test.cpp)
    refused(errc::wrong_run, "'other-run'", "'test-run'", [](link_hello& h) { h.run_id = "other-run"; });
  refused(errc::wrong_version, "version 9", "version 1", [](link_hello& h) { h.version = 9; });
  refused(errc::wrong_recipe, hash128{7, 7}.hex(), hash128{1, 2}.hex(), [](link_hello& h) { h.recipe_hash = {7, 7}; });
}

BOOST_AUTO_TEST_CASE(a_lower_incarnation_is_refused_and_a_higher_one_takes_over) {
  probe a(options_of(0));
  a.wire().keep(1, "");
  probe second(options_of(1, 5));
  second.wire().keep(0, a.wire().address());
  BOOST_REQUIRE(a.wait_up());
  probe first(options_of(1, 4));
  first.wire().keep(0, a.wire().address());
  BOOST_REQUIRE(first.wait_refused());
  BOOST_TEST((first.now().refusals[0].second.code == errc::stale_incarnation));
  BOOST_TEST(mentions(a.now().log, "stale_incarnation"));
  BOOST_TEST(a.now().downs.empty());
  probe third(options_of(1, 6));
  third.wire().keep(0, a.wire().address());
  BOOST_REQUIRE(a.wait_up(2));
  BOOST_TEST((a.now().ups[1] == std::pair<site_id, incarnation_number>{1, 6}));
  BOOST_REQUIRE(second.wait_refused());
  BOOST_TEST((second.now().refusals[0].second.code == errc::stale_incarnation));
}

BOOST_AUTO_TEST_CASE(who_meets_a_replaced_peer_is_not_refused_itself) {
  probe caller(options_of(1));
  auto newer = std::make_unique<probe>(options_of(0, 6));
  newer->wire().keep(1, "");
  caller.wire().keep(0, newer->wire().address());
  BOOST_REQUIRE(caller.wait_up() && newer->wait_up());
  caller.wire().send_bulk(0, 1, text_bytes("h"), patterned(1000, 1));
  BOOST_REQUIRE(all_sent(caller, 1));
  newer.reset();
  BOOST_REQUIRE(caller.wait_down());
  probe older(options_of(0, 5));
  older.wire().keep(1, "");
  caller.wire().keep(0, older.wire().address());
  BOOST_REQUIRE(caller.wait([](const auto& n) { return mentions(n.log, "stale_incarnation"); }));
  BOOST_TEST(caller.now().refusals.empty());
  BOOST_TEST(caller.now().ups.size() == 1U);
}

BOOST_AUTO_TEST_CASE(a_peer_that_is_not_expected_waits_until_it_is) {
  probe a(options_of(0)), b(options_of(1));
  b.wire().keep(0, a.wire().address());
  BOOST_REQUIRE(a.wait([](const auto& n) { return !n.log.empty(); }));
  BOOST_TEST(mentions(a.now().log, "does not expect site 1"));
  BOOST_TEST(b.now().downs.empty());
  a.wire().keep(1, b.wire().address());
  BOOST_REQUIRE(a.wait_up() && b.wait_up());
  a.wire().forget(1);
  BOOST_REQUIRE(a.wait_down() && b.wait_down());
  a.wire().send_bulk(1, 1, text_bytes("h"), nullptr);
  BOOST_REQUIRE(all_sent(a, 1));
  BOOST_TEST(failures(a.now()) == 1U);
}

BOOST_AUTO_TEST_CASE(the_coordinator_is_dialled_by_all) {
  probe coordinator(options_of(coordinator_id)), a(options_of(0)), b(options_of(1));
  a.wire().keep(coordinator_id, coordinator.wire().address());
  b.wire().keep(coordinator_id, coordinator.wire().address());
  BOOST_REQUIRE(coordinator.wait_up(2) && a.wait_up() && b.wait_up());
}

BOOST_AUTO_TEST_SUITE_END()
