#include "framework/transport/call_limits.hpp"

#include <boost/test/unit_test.hpp>

#include <array>
#include <chrono>

using namespace isthmus;
using namespace std::chrono_literals;

namespace {

std::array<std::byte, 4> host(unsigned number) {
  return {std::byte{127}, static_cast<std::byte>(number >> 16), static_cast<std::byte>(number >> 8), static_cast<std::byte>(number)};
}

const time_point start{1000s};

int allowed(call_limits& limits, unsigned from, int calls, time_point at) {
  int count = 0;
  for (int i = 0; i < calls; ++i) count += limits.may_shake(host(from), at) ? 1 : 0;
  return count;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(call_limit)

BOOST_AUTO_TEST_CASE(an_address_has_a_burst_and_then_a_rate) {
  call_limits limits(64, 8);
  BOOST_TEST(allowed(limits, 1, 1000, start) == 64);
  BOOST_TEST(allowed(limits, 1, 1000, start + 1s) == 8);
  BOOST_TEST(allowed(limits, 2, 1000, start + 1s) == 64);  // another address
  BOOST_TEST(allowed(limits, 1, 1000, start + 1h) == 64);  // no more is saved up
}

BOOST_AUTO_TEST_CASE(handshakes_that_end_well_do_not_count) {
  call_limits limits(64, 8);
  for (int i = 0; i < 1000; ++i) {
    BOOST_TEST_REQUIRE(limits.may_shake(host(1), start));
    limits.shook(host(1));
  }
  BOOST_TEST(allowed(limits, 1, 1000, start) == 64);
}

BOOST_AUTO_TEST_CASE(an_ipv6_caller_is_its_network) {
  call_limits limits(64, 8);
  int count = 0;
  for (unsigned i = 0; i < 200; ++i) {
    std::array<std::byte, 16> six{std::byte{0xfd}};
    six[15] = static_cast<std::byte>(i);
    count += limits.may_shake(six, start) ? 1 : 0;
  }
  BOOST_TEST(count == 64);
}

BOOST_AUTO_TEST_CASE(many_addresses_push_out_the_one_heard_of_longest_ago) {
  call_limits limits(64, 8);
  BOOST_TEST(allowed(limits, 0, 100, start) == 64);
  for (unsigned i = 1; i < call_limits::addresses_max; ++i) BOOST_TEST_REQUIRE(allowed(limits, i, 1, start + 1ms) == 1);
  BOOST_TEST(allowed(limits, 0, 1, start + 2ms) == 0);  // still known
  for (unsigned i = 1; i <= call_limits::addresses_max; ++i) BOOST_TEST_REQUIRE(allowed(limits, 10'000 + i, 1, start + 3ms) == 1);
  BOOST_TEST(allowed(limits, 0, 100, start + 4ms) == 64);  // forgotten
}

BOOST_AUTO_TEST_CASE(a_trouble_is_told_once_a_minute_with_a_count) {
  call_limits limits(64, 8);
  BOOST_TEST(*limits.line("site 1", errc::refused, "first", start) == "first");
  for (int i = 0; i < 30; ++i) BOOST_TEST(!limits.line("site 1", errc::refused, "again", start + 59s));
  BOOST_TEST(*limits.line("site 2", errc::refused, "another", start + 59s) == "another");
  BOOST_TEST(*limits.line("site 1", errc::malformed, "of another kind", start + 59s) == "of another kind");
  BOOST_TEST(*limits.line("site 1", errc::refused, "later", start + 60s) == "later (and 30 times more in the last minutes)");
  BOOST_TEST(!limits.line("site 1", errc::refused, "again", start + 61s));
  BOOST_TEST(*limits.line("site 1", errc::refused, "later", start + 200s) == "later (and 1 times more in the last minutes)");
  BOOST_TEST(*limits.line("site 1", errc::refused, "alone", start + 300s) == "alone");
}

BOOST_AUTO_TEST_SUITE_END()
