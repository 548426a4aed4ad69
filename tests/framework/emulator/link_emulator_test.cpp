#include "framework/emulator/link_emulator.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <chrono>
#include <numeric>

using namespace isthmus;
using namespace isthmus::emulator;
using namespace std::chrono_literals;

namespace {

void put(packet& p, std::size_t at, std::size_t size, std::uint32_t value) {
  for (std::size_t i = 0; i < size; ++i) p[at + i] = static_cast<std::byte>(value >> 8 * (size - 1 - i) & 255);
}

/// The one's complement sum of 16-bit words; 0xffff when a checksum among them is right.
std::uint32_t sum_words(std::span<const std::byte> bytes, std::uint32_t sum = 0) {
  for (std::size_t i = 0; i < bytes.size(); ++i) sum += std::to_integer<std::uint32_t>(bytes[i]) << (i % 2 == 0 ? 8 : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}
std::uint32_t tcp_sum(const packet& p) {
  return sum_words(std::span(p).subspan(20), sum_words(std::span(p).subspan(12, 8), 6 + static_cast<std::uint32_t>(p.size() - 20)));
}

/// From 10.77.0.(1 + from) to 10.77.0.(1 + to); the payload counts up.
packet tcp_packet(site_id from, site_id to, std::size_t payload, std::uint32_t sequence = 1000, std::uint32_t acknowledged = 5000) {
  packet p(40 + payload);
  put(p, 0, 1, 0x45);
  put(p, 2, 2, static_cast<std::uint32_t>(p.size()));
  put(p, 9, 1, 6);
  put(p, 12, 4, 0x0a4d0001 + from);
  put(p, 16, 4, 0x0a4d0001 + to);
  put(p, 20, 2, 7000 + from);
  put(p, 22, 2, 7000 + to);
  put(p, 24, 4, sequence);
  put(p, 28, 4, acknowledged);
  put(p, 32, 1, 0x50);
  put(p, 33, 1, 0x10);
  for (std::size_t i = 0; i < payload; ++i) p[40 + i] = static_cast<std::byte>(i);
  put(p, 36, 2, ~tcp_sum(p) & 0xffff);
  return p;
}

/// An emulator with a clock of its own and what has arrived.
struct links {
  explicit links(std::uint64_t seed = 1) : emulator(seed) { BOOST_TEST_MESSAGE("seed " << seed); }
  link_emulator emulator;
  time_point now = time_point{} + 1h;
  std::vector<std::pair<double, packet>> arrived;  // seconds since the start of the test

  void send(packet p, site_id from = 0, site_id to = 1) { emulator.take(from, to, std::move(p), now); }
  void run(duration d) {
    const auto end = now + d;
    for (;;) {
      emulator.deliver(now, [&](site_id, const packet& p) { arrived.emplace_back(to_seconds(now - time_point{} - 1h), p); });
      const auto due = emulator.next_due();
      if (!due || *due > end) break;
      now = std::max(now, *due);
    }
    now = end;
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(link_emulator_test)

BOOST_AUTO_TEST_CASE(a_packet_is_seen_as_it_is) {
  const auto p = tcp_packet(3, 4, 7, 11, 22);
  const auto view = view_packet(p);
  BOOST_TEST_REQUIRE(view.has_value());
  BOOST_TEST(view->from == 0x0a4d0004U);
  BOOST_TEST(view->to == 0x0a4d0005U);
  BOOST_TEST((view->tcp && view->acknowledges));
  BOOST_TEST(view->from_port == 7003);
  BOOST_TEST(view->sequence == 11U);
  BOOST_TEST(view->acknowledged == 22U);
  BOOST_TEST(view->payload_begin == 40U);
  BOOST_TEST(view->payload_bytes == 7U);
  for (std::size_t n = 0; n < p.size(); ++n) BOOST_TEST(!view_packet(std::span(p).first(n)).has_value(), n << " bytes");
}

BOOST_AUTO_TEST_CASE(delay_and_rate_are_what_was_asked_for) {
  links l;
  l.emulator.set_all_paths({.delay = 50ms, .bytes_per_second = 10'000});
  for (int i = 0; i < 3; ++i) l.send(tcp_packet(0, 1, 960));  // 1,000 bytes each: 0.1 s on the wire
  l.run(1s);
  BOOST_TEST_REQUIRE(l.arrived.size() == 3U);
  for (std::size_t i = 0; i < 3; ++i)
    BOOST_TEST(l.arrived[i].first == 0.15 + 0.1 * static_cast<double>(i), boost::test_tools::tolerance(1e-6));
}

BOOST_AUTO_TEST_CASE(a_queue_behind_a_narrow_path_overflows) {
  links l;
  l.emulator.set_all_paths({.bytes_per_second = 10'000});
  for (int i = 0; i < 100; ++i) l.send(tcp_packet(0, 1, 960));
  l.run(60s);
  BOOST_TEST(l.arrived.size() == 65U);  // 64 KiB wait, and one was on its way
  BOOST_TEST(l.emulator.counters().overflowed == 35U);
}

BOOST_AUTO_TEST_CASE(a_cut_loses_one_direction_and_what_is_under_way) {
  links l;
  l.emulator.set_all_paths({.delay = 50ms});
  l.send(tcp_packet(0, 1, 10));
  l.emulator.cut(0, 1);
  l.emulator.cut(0, 1);
  l.send(tcp_packet(0, 1, 10));
  l.send(tcp_packet(1, 0, 20), 1, 0);
  l.run(1s);
  BOOST_TEST_REQUIRE(l.arrived.size() == 1U);
  BOOST_TEST(l.arrived[0].second.size() == 60U);
  l.emulator.heal(0, 1);
  l.send(tcp_packet(0, 1, 10));
  l.run(1s);
  BOOST_TEST(l.arrived.size() == 1U);  // two cuts need two heals
  l.emulator.heal(0, 1);
  l.send(tcp_packet(0, 1, 10));
  l.run(1s);
  BOOST_TEST(l.arrived.size() == 2U);
  BOOST_TEST(l.emulator.counters().cut == 3U);
}

BOOST_AUTO_TEST_CASE(what_is_held_arrives_in_order_when_released) {
  links l;
  l.emulator.hold(0, 1);
  for (std::uint32_t i = 0; i < 5; ++i) l.send(tcp_packet(0, 1, 10, i));
  l.run(10s);
  BOOST_TEST(l.arrived.empty());
  l.emulator.release(0, 1);
  l.run(1ms);
  BOOST_TEST_REQUIRE(l.arrived.size() == 5U);
  for (std::uint32_t i = 0; i < 5; ++i) BOOST_TEST(view_packet(l.arrived[i].second)->sequence == i);
}

BOOST_AUTO_TEST_CASE(jitter_keeps_order_and_reordering_does_not) {
  for (const double reorder : {0.0, 0.3}) {
    links l(7);
    l.emulator.set_all_paths({.delay = 10ms, .jitter = 20ms, .reorder = reorder});
    for (std::uint32_t i = 0; i < 200; ++i) {
      l.send(tcp_packet(0, 1, 10, i));
      l.run(1ms);
    }
    l.run(1s);
    BOOST_TEST_REQUIRE(l.arrived.size() == 200U);
    const bool in_order = std::is_sorted(l.arrived.begin(), l.arrived.end(), [](const auto& a, const auto& b) {
      return view_packet(a.second)->sequence < view_packet(b.second)->sequence;
    });
    BOOST_TEST(in_order == (reorder == 0));
    BOOST_TEST((l.emulator.counters().reordered > 30U) == (reorder > 0));
  }
}

BOOST_AUTO_TEST_CASE(chances_come_from_the_seed) {
  const auto fate = [](std::uint64_t seed) {
    links l(seed);
    l.emulator.set_all_paths({.loss = 0.2, .duplicate = 0.1, .corrupt = 0.1});
    for (std::uint32_t i = 0; i < 1000; ++i) l.send(tcp_packet(0, 1, 10, i));
    l.run(1s);
    return l;
  };
  const auto a = fate(3), b = fate(3), c = fate(4);
  BOOST_TEST((a.arrived == b.arrived));
  BOOST_TEST((a.arrived != c.arrived));
  const auto n = a.emulator.counters();
  BOOST_TEST((n.lost > 150U && n.lost < 250U));
  BOOST_TEST((n.duplicated > 50U && n.duplicated < 120U));
  BOOST_TEST((n.corrupted > 50U && n.corrupted < 120U));
  BOOST_TEST(a.arrived.size() == 1000 - n.lost + n.duplicated);
}

BOOST_AUTO_TEST_CASE(faults_of_a_path_add_up_and_are_taken_away_one_by_one) {
  links l;
  const sim::path_fault slow{.delay = 100ms}, slower{.delay = 200ms};
  l.emulator.worsen(1, 0, slow);
  l.emulator.worsen(0, 1, slower);
  l.send(tcp_packet(0, 1, 10));
  l.run(1s);
  l.emulator.mend(0, 1, slow);
  l.send(tcp_packet(1, 0, 10), 1, 0);
  l.run(1s);
  BOOST_TEST_REQUIRE(l.arrived.size() == 2U);
  BOOST_TEST(l.arrived[0].first == 0.3, boost::test_tools::tolerance(1e-6));
  BOOST_TEST(l.arrived[1].first == 1.2, boost::test_tools::tolerance(1e-6));
}

BOOST_AUTO_TEST_CASE(a_torn_segment_has_a_right_checksum_and_a_wrong_byte) {
  links l;
  l.emulator.tear_next(0);
  const auto small = tcp_packet(0, 1, 10), full = tcp_packet(0, 1, 1201);
  BOOST_TEST_REQUIRE(tcp_sum(full) == 0xffffU);
  for (const auto& p : {small, full, full}) l.send(p);
  l.run(1s);
  BOOST_TEST_REQUIRE(l.arrived.size() == 3U);
  BOOST_TEST((l.arrived[0].second == small));
  BOOST_TEST((l.arrived[2].second == full));
  auto torn = l.arrived[1].second;
  BOOST_TEST(tcp_sum(torn) == 0xffffU);
  BOOST_TEST((torn.back() != full.back()));
  BOOST_TEST(torn.size() == full.size());
}

BOOST_AUTO_TEST_CASE(a_corrupt_segment_is_the_next_of_that_path_whatever_its_size) {
  links l;
  l.emulator.corrupt_next(0, 1);
  const auto empty = tcp_packet(0, 1, 0), small = tcp_packet(0, 1, 10), back = tcp_packet(1, 0, 10);
  l.send(empty);
  l.send(back, 1, 0);
  l.send(small);
  l.send(small);
  l.run(1s);
  BOOST_TEST_REQUIRE(l.arrived.size() == 4U);
  BOOST_TEST((l.arrived[0].second == empty && l.arrived[1].second == back && l.arrived[3].second == small));
  BOOST_TEST((l.arrived[2].second != small));
  BOOST_TEST(tcp_sum(l.arrived[2].second) == 0xffffU);
}

BOOST_AUTO_TEST_CASE(packets_overtake_each_other_by_no_more_than_was_asked_for) {
  links l(5);
  const sim::path_fault fault{.reorder = 50ms};
  l.emulator.worsen(0, 1, fault);
  for (std::uint32_t i = 0; i < 100; ++i) l.send(tcp_packet(0, 1, 10, i));
  l.run(1s);
  BOOST_TEST_REQUIRE(l.arrived.size() == 100U);
  BOOST_TEST(l.arrived.back().first <= 0.05 + 1e-6);
  BOOST_TEST(view_packet(l.arrived.front().second)->sequence != 0U);
}

BOOST_AUTO_TEST_CASE(a_reset_reaches_both_ends_with_what_each_expects) {
  links l;
  l.send(tcp_packet(0, 1, 100, 1000, 5000));
  l.send(tcp_packet(1, 0, 0, 5000, 1100), 1, 0);
  l.send(tcp_packet(2, 1, 0, 1, 1), 2, 1);  // another connection
  l.run(1s);
  l.arrived.clear();
  l.emulator.reset(1, 0);
  l.run(1s);
  std::map<std::uint32_t, std::uint32_t> expected{{0x0a4d0001, 5000}, {0x0a4d0002, 1100}};  // address -> sequence number
  BOOST_TEST(l.arrived.size() == 2U);
  for (const auto& [when, p] : l.arrived) {
    const auto view = view_packet(p);
    BOOST_TEST_REQUIRE((view && view->tcp));
    BOOST_TEST(view->sequence == expected.at(view->to));
    BOOST_TEST(std::to_integer<int>(p[33]) == 0x14);
    BOOST_TEST(tcp_sum(p) == 0xffffU);
    BOOST_TEST(sum_words(std::span(p).first(20)) == 0xffffU);
  }
  l.arrived.clear();
  l.emulator.reset(1, 0);  // nothing was seen of them since
  l.run(1s);
  BOOST_TEST(l.arrived.empty());
}

BOOST_AUTO_TEST_SUITE_END()
