#include "framework/transport/address.hpp"
#include "tests/framework/transport/probe.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

using namespace isthmus;
using namespace isthmus::testing;

BOOST_AUTO_TEST_SUITE(links)

BOOST_AUTO_TEST_CASE(both_ends_come_up_and_hear_control_messages_in_order) {
  probe a(options_of(0, 3)), b(options_of(1, 7));
  keep_each_other(a, 0, b, 1);
  BOOST_REQUIRE(a.wait_up() && b.wait_up());
  BOOST_TEST((a.now().ups.at(0) == std::pair<site_id, incarnation_number>{1, 7}));
  BOOST_TEST((b.now().ups.at(0) == std::pair<site_id, incarnation_number>{0, 3}));
  for (int i = 0; i < 100; ++i) a.wire().send_control(1, text_bytes("message " + std::to_string(i)));
  a.wire().send_control(1, patterned(1U << 20, 5));
  BOOST_REQUIRE(b.wait([](const auto& n) { return n.controls.size() == 101; }));
  const auto heard = b.now().controls;
  for (int i = 0; i < 100; ++i)
    BOOST_TEST(same_bytes(heard[static_cast<std::size_t>(i)].second, text_bytes("message " + std::to_string(i))));
  BOOST_TEST(same_bytes(heard[100].second, patterned(1U << 20, 5)));
}

BOOST_AUTO_TEST_CASE(a_peer_of_several_addresses_is_found_where_it_listens) {
  auto one = std::make_unique<probe>(options_of(coordinator_id, 1));
  probe site(options_of(1));
  const std::string first = one->wire().address();
  std::string second;
  {
    probe reserved(options_of(coordinator_id, 2));  // a free port, where nobody listens for now
    second = reserved.wire().address();
  }
  site.wire().keep(coordinator_id, second + "," + first);
  BOOST_REQUIRE(site.wait_up());
  one.reset();
  BOOST_REQUIRE(site.wait_down());
  auto options = options_of(coordinator_id, 2);
  options.listen = second;
  const probe other(options);
  BOOST_REQUIRE(site.wait_up(2));
  BOOST_TEST((site.now().ups.at(1) == std::pair<site_id, incarnation_number>{coordinator_id, 2}));
  const auto log = site.now().log;
  for (const auto& line : log) BOOST_TEST(std::count(log.begin(), log.end(), line) == 1, line);  // a retry says nothing new
}

BOOST_AUTO_TEST_CASE(bulk_messages_of_all_sizes_arrive_whole) {
  auto options = options_of(1);
  options.endpoints = 3;
  probe a(options_of(0)), b(options);
  keep_each_other(a, 0, b, 1);
  BOOST_REQUIRE(a.wait_up() && b.wait_up());
  const std::vector<std::size_t> sizes{0, 1, 100, 65'536, 1U << 20, (1U << 20) + 1, 40U << 20};
  std::uint64_t id = 100;
  for (const std::size_t size : sizes) {
    b.wire().send_bulk(0, ++id, text_bytes("from b " + std::to_string(size)), patterned(size, size));
    a.wire().send_bulk(1, ++id, text_bytes("from a " + std::to_string(size)), patterned(size, size + 1));
  }
  for (auto* end : {&a, &b}) {
    BOOST_REQUIRE(end->wait([&](const auto& n) { return n.bulks.size() == sizes.size() && n.sent.size() == sizes.size(); }));
    const auto notes = end->now();
    for (const auto& [sent, outcome] : notes.sent) BOOST_TEST(bool(outcome));
    const std::string from = end == &a ? "from b " : "from a ";
    for (const std::size_t size : sizes) {
      const auto found = std::find_if(notes.bulks.begin(), notes.bulks.end(),
                                      [&](const auto& m) { return same_bytes(m.header, text_bytes(from + std::to_string(size))); });
      BOOST_REQUIRE(found != notes.bulks.end());
      BOOST_TEST(same_bytes(found->payload, patterned(size, end == &a ? size : size + 1)));
    }
  }
}

namespace {

/// Ports of this machine that this process listens on.
std::set<unsigned> own_listening_ports() {
  std::set<std::string> own;  // inodes
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(entry.path(), gone).string();
    if (target.starts_with("socket:[")) own.insert(target.substr(8, target.size() - 9));
  }
  std::set<unsigned> ports;
  std::ifstream table("/proc/self/net/tcp");
  for (std::string line; std::getline(table, line);) {
    std::istringstream fields(line);
    std::vector<std::string> words{std::istream_iterator<std::string>(fields), {}};
    if (words.size() > 9 && words[3] == "0A" && own.contains(words[9]))
      ports.insert(static_cast<unsigned>(std::stoul(words[1].substr(words[1].find(':') + 1), nullptr, 16)));
  }
  return ports;
}

}  // namespace

BOOST_AUTO_TEST_CASE(bulk_data_comes_in_at_the_ports_that_were_given) {
  const auto before = own_listening_ports();
  auto of_a = options_of(0), of_b = options_of(1);
  of_a.data_ports = of_b.data_ports = "23500-23600";  // the high byte of the port differs in this range: peers must bear that
  probe a(of_a), b(of_b);
  keep_each_other(a, 0, b, 1);
  BOOST_REQUIRE(a.wait_up() && b.wait_up());
  const auto control = [](probe& p) { return parse_address(p.wire().address())->port(); };
  std::size_t data = 0;
  for (const unsigned port : own_listening_ports()) {
    if (before.contains(port) || port == control(a) || port == control(b)) continue;
    ++data;
    BOOST_TEST((port >= 23500U && port <= 23600U), "port " << port);
  }
  BOOST_TEST(data >= 2U);
  b.wire().send_bulk(0, 1, text_bytes("h"), patterned(3U << 20, 1));
  BOOST_TEST(a.wait([](const auto& n) { return n.bulks.size() == 1; }));
}

BOOST_AUTO_TEST_SUITE_END()
