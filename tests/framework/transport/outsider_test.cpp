#include "tests/framework/transport/outsider.hpp"

#include "framework/core/rng.hpp"
#include "framework/transport/handshake.hpp"
#include "framework/transport/port_guard.hpp"
#include "tests/framework/transport/keys.hpp"
#include "tests/framework/transport/middleman.hpp"
#include "tests/framework/transport/probe.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <map>
#include <thread>

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;

namespace {

using steady = std::chrono::steady_clock;
double seconds_since(steady::time_point then) { return std::chrono::duration<double>(steady::now() - then).count(); }

bool comes_true(const std::function<bool()>& what) {
  for (int i = 0; i < 1000; ++i, std::this_thread::sleep_for(10ms))
    if (what()) return true;
  return false;
}

/// Two sealed sites, the second of which sends to the first without a pause.
class busy_pair {
public:
  busy_pair() : ends_{make(0), make(1)} {
    start(0);
    start(1);
    ends_[0]->keep(1, "");
    between_ = std::make_unique<middleman>(ends_[0]->address());
    ends_[1]->keep(0, between_->address());
  }
  ~busy_pair() {
    resting_ = true;
    for (const auto& end : ends_) end->stop();
  }
  busy_pair(const busy_pair&) = delete;
  busy_pair& operator=(const busy_pair&) = delete;

  std::string address(std::size_t site) const { return ends_[site]->address(); }
  link_counters counters(std::size_t site) const { return ends_[site]->counters(static_cast<site_id>(1 - site)); }
  std::vector<std::byte> handshake_of_the_caller() { return between_->said(middleman::from::caller); }
  std::uint64_t received() const { return received_; }
  /// Waits until nothing is under way; what then is in use does not depend on chance. go_on() begins again.
  void rest() {
    resting_ = true;
    ensure(comes_true([&] { return under_way_ == 0; }), "busy_pair: it does not come to rest");
  }
  void go_on() {
    resting_ = false;
    for (int i = 0; i < 8; ++i) send();
  }
  /// MB/s.
  double goodput_while(const std::function<void()>& what) {
    const auto begin = steady::now();
    const std::uint64_t before = received_;
    what();
    return 1e-6 * static_cast<double>(received_ - before) / seconds_since(begin);
  }
  std::vector<std::string> log() {
    const std::lock_guard lock(mutex_);
    return log_;
  }
  std::vector<std::string> data_ports() const {
    auto ports = listening_addresses();
    std::erase_if(ports, [&](const std::string& p) { return p == address(0) || p == address(1) || p == between_->address(); });
    return ports;
  }

  std::atomic<int> ups = 0, downs = 0, lost = 0;

private:
  std::unique_ptr<transport> make(site_id site) {
    auto options = options_of(site);
    options.keys = keys_of(site);
    options.greeting_timeout = 1s;
    options.log = [this](const std::string& line) {
      const std::lock_guard lock(mutex_);
      log_.push_back(line);
    };
    return std::move(*make_ucx_transport(options, clock_));
  }
  void start(std::size_t site) {
    transport_events events;
    events.up = [this, site](site_id, incarnation_number) {
      ++ups;
      if (site == 1) go_on();
    };
    events.down = [this](site_id, const error&) { ++downs; };
    events.control = [](site_id, const shared_bytes&) {};
    events.bulk = [this](site_id, const shared_bytes&, const shared_bytes& payload) { received_ += payload->size(); };
    events.sent = [this](site_id, std::uint64_t, const expected<void>& outcome) {
      lost += outcome ? 0 : 1;
      if (outcome && !resting_) send();
      --under_way_;
    };
    ends_[site]->start(std::move(events));
  }
  void send() {
    ++under_way_;
    ends_[1]->send_bulk(0, ++sent_, header_, payload_);
  }

  real_clock clock_;
  std::mutex mutex_;
  std::vector<std::string> log_;
  std::atomic<std::uint64_t> received_ = 0, sent_ = 0;
  std::atomic<int> under_way_ = 0;
  std::atomic<bool> resting_ = false;
  shared_bytes header_ = text_bytes("h"), payload_ = patterned(1U << 20, 3);
  std::unique_ptr<transport> ends_[2];
  std::unique_ptr<middleman> between_;
};

/// Has it go on for a second at least, connection after connection, with a pause now and then so that one core is not all its own.
void for_a_while(int connections, const std::function<void(int)>& one) {
  const auto begin = steady::now();
  for (int i = 0; i < connections || seconds_since(begin) < 1; ++i) {
    one(i);
    if (i % 50 == 49) std::this_thread::sleep_for(5ms);
  }
}

struct attack {
  std::string name;
  std::function<void()> run;
  std::size_t may_hear;  // bytes, in all
};

std::vector<attack> attacks_on(busy_pair& sites, outsider& who) {
  const std::vector<std::string> doors{sites.address(0), sites.address(1)};
  const auto door = [doors](int i) { return doors[static_cast<std::size_t>(i) % doors.size()]; };
  const auto noise = [](int i) {
    return patterned(1 + rng(7, 0, static_cast<std::uint64_t>(i), draw::network).below(3000), static_cast<std::uint64_t>(i));
  };
  const auto recorded = sites.handshake_of_the_caller();
  const auto everywhere = [doors, ports = sites.data_ports()](int i) {
    return static_cast<std::size_t>(i) % 2 == 0 ? doors[static_cast<std::size_t>(i / 2) % doors.size()]
                                                : ports[static_cast<std::size_t>(i / 2) % ports.size()];
  };
  return {
      {"port scan", [=, &who] { for_a_while(500, [&](int i) { who.add(everywhere(i), 1); }); }, 0},
      {"random bytes", [=, &who] { for_a_while(500, [&](int i) { who.add(door(i), 50).say(noise(i)->bytes()); }); }, 0},
      {"replayed handshake", [=, &who] { for_a_while(300, [&](int i) { who.add(door(i), 50).say(recorded); }); }, 200 * (5 + answer_bytes)},
      {"10,000 connections", [=, &who] { for_a_while(10'000, [&](int i) { who.add(door(i), 1000); }); }, 0},
      {"half frames", [=, &who] { for_a_while(300, [&](int i) { who.add(door(i), 300).say(std::span(recorded).first(40)); }); }, 0},
      {"slow bytes",
       [=, &who] {
         for (int i = 0; i < 50; ++i) who.add(door(i), 50);
         for (std::size_t at = 0; at < 60; ++at, std::this_thread::sleep_for(25ms))
           for (const auto& one : who.calls) one->say(std::span(recorded).subspan(at, 1));
       },
       0},
  };
}

/// "127.0.0.66:40000 refused: malformed: ..." -> "malformed", of lines that name this host.
std::map<std::string, int> kinds_of(const std::vector<std::string>& log, const std::string& host) {
  std::map<std::string, int> kinds;
  for (const auto& line : log) {
    if (line.find(host + ":") == std::string::npos) continue;
    const auto from = line.find(": ", line.find(host)) + 2;
    ++kinds[line.substr(from, line.find(": ", from) - from)];
  }
  return kinds;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(outsiders)

BOOST_AUTO_TEST_CASE(who_has_the_address_but_no_key_harms_nothing_while_bulk_data_move) {
  busy_pair sites;
  BOOST_REQUIRE(comes_true([&] { return sites.ups == 2 && sites.received() > 64U << 20; }));
  BOOST_REQUIRE(!sites.data_ports().empty());
  const auto begun = steady::now();
  const double alone = sites.goodput_while([] { std::this_thread::sleep_for(2s); });
  sites.rest();
  const auto before = resources_now();
  sites.go_on();
  BOOST_TEST_MESSAGE("goodput alone: " << alone << " MB/s");
  outsider who("127.0.0.66");
  for (const auto& one : attacks_on(sites, who)) {
    const double attacked = sites.goodput_while(one.run);
    const std::size_t heard = who.leave();
    BOOST_TEST(heard <= one.may_hear, one.name << " heard " << heard << " bytes");
    BOOST_TEST(attacked > 0.1 * alone, one.name << ": " << attacked << " MB/s of " << alone);
    BOOST_TEST_MESSAGE(one.name << ": " << attacked << " MB/s, " << attacked / alone << " of that alone");
  }
  const double minutes = std::ceil(seconds_since(begun) / 60);
  for (const auto& [kind, lines] : kinds_of(sites.log(), "127.0.0.66"))
    BOOST_TEST(lines <= 2 * minutes, lines << " lines of kind " << kind << " from two sites in " << minutes << " minutes");
  BOOST_TEST(!kinds_of(sites.log(), "127.0.0.66").empty());
  BOOST_TEST(sites.ups == 2);  // nobody came in, nobody fell out
  BOOST_TEST((sites.downs == 0 && sites.lost == 0));
  for (const std::size_t site : {0U, 1U}) BOOST_TEST((sites.counters(site).forged == 0 && sites.counters(site).reconnects == 0));
  sites.rest();
  BOOST_TEST(comes_true([&] { return resources_now().descriptors <= before.descriptors; }));
  const auto after = resources_now();
  BOOST_TEST(after.threads <= before.threads);
  BOOST_TEST(after.bytes_in_use < before.bytes_in_use + (4U << 20),
             "in use: " << before.bytes_in_use << " bytes, then " << after.bytes_in_use);
  BOOST_TEST_MESSAGE("bytes in use: " << before.bytes_in_use << ", then " << after.bytes_in_use);
}

BOOST_AUTO_TEST_CASE(a_data_port_is_not_there_for_other_hosts_than_the_peers) {
  busy_pair sites;
  BOOST_REQUIRE(comes_true([&] { return sites.ups == 2 && sites.received() > 0; }));
  const auto ports = sites.data_ports();
  BOOST_REQUIRE(ports.size() >= 2U);
  outsider elsewhere("127.0.0.66"), beside("127.0.0.1");
  for (int i = 0; i < 300; ++i) {
    elsewhere.add(ports[static_cast<std::size_t>(i) % ports.size()], 300);
    beside.add(ports[static_cast<std::size_t>(i) % ports.size()], 300);
  }
  BOOST_TEST(
      comes_true([&] { return std::all_of(beside.calls.begin(), beside.calls.end(), [](const auto& c) { return c->is_connected(); }); }));
  BOOST_TEST(std::none_of(elsewhere.calls.begin(), elsewhere.calls.end(), [](const auto& c) { return c->is_connected(); }));
}

BOOST_AUTO_TEST_CASE(random_bytes_to_data_ports_from_a_peers_host_do_no_harm) {
  busy_pair sites;
  BOOST_REQUIRE(comes_true([&] { return sites.ups == 2 && sites.received() > 64U << 20; }));
  const auto ports = sites.data_ports();
  const auto before = resources_now();
  outsider beside("127.0.0.1");
  for_a_while(2000, [&](int i) {
    beside.add(ports[static_cast<std::size_t>(i) % ports.size()], 50)
        .say(patterned(1 + static_cast<std::size_t>(i) % 2000, static_cast<std::uint64_t>(i))->bytes());
  });
  beside.leave();
  const auto had = sites.received();
  BOOST_TEST(comes_true([&] { return sites.received() > had + (64U << 20); }));
  BOOST_TEST((sites.ups == 2 && sites.downs == 0 && sites.lost == 0));
  BOOST_TEST(comes_true([&] { return resources_now().descriptors <= before.descriptors; }));
}

BOOST_AUTO_TEST_CASE(the_kernel_drops_what_comes_from_hosts_that_are_not_admitted) {
  for (const char* address : {"127.0.0.1:0", "[::1]:0"}) {
    auto at = *parse_address(address);
    const int listener = ::socket(at.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    BOOST_REQUIRE((::bind(listener, at.get(), at.size) == 0 && ::listen(listener, 4) == 0));
    at.size = sizeof at.storage;
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&at.storage), &at.size);
    const auto answers = [&] {
      const int caller = ::socket(at.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const timeval patience{0, 300'000};
      ::setsockopt(caller, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
      const bool connected = ::connect(caller, at.get(), at.size) == 0;
      ::close(caller);
      return connected;
    };
    BOOST_TEST(answers());
    auto other = std::vector(at.host().begin(), at.host().end());
    other.back() = std::byte{66};
    const std::span<const std::byte> others(other), own = at.host();
    BOOST_REQUIRE(bool(admit_hosts(listener, std::array{others})));
    BOOST_TEST(!answers());
    BOOST_REQUIRE(bool(admit_hosts(listener, std::array{others, own})));
    BOOST_TEST(answers());
    ::close(listener);
  }
}

BOOST_AUTO_TEST_SUITE_END()
