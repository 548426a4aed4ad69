#include "framework/emulator/steered_transport.hpp"
#include "framework/emulator/steering.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <chrono>
#include <sys/socket.h>
#include <thread>

using namespace isthmus;
using namespace isthmus::emulator;
using namespace std::chrono_literals;

namespace {

/// A wire that notes what it is given.
struct noting_wire final : transport {
  explicit noting_wire(std::shared_ptr<noting_wire*> self_) : self(std::move(self_)) { *self = this; }
  ~noting_wire() override { *self = nullptr; }
  void start(transport_events given) override { events = std::move(given); }
  void keep(site_id, const std::string&) override {}
  void forget(site_id) override {}
  void close(site_id peer, error reason) override {
    const std::lock_guard lock(mutex);
    closed.emplace_back(peer, reason.message);
  }
  void send_control(site_id, shared_bytes bytes) override { note(bytes); }
  void send_bulk(site_id, std::uint64_t, shared_bytes, shared_bytes payload) override { note(payload); }
  link_counters counters(site_id) const override { return {}; }
  std::string address() const override { return "nowhere"; }
  void stop() override {}

  void note(const shared_bytes& bytes) {
    const std::lock_guard lock(mutex);
    sent.emplace_back(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  }
  std::vector<std::string> all_sent() {
    const std::lock_guard lock(mutex);
    return sent;
  }
  std::size_t times_closed() {
    const std::lock_guard lock(mutex);
    return closed.size();
  }

  std::shared_ptr<noting_wire*> self;
  transport_events events;
  std::mutex mutex;
  std::vector<std::string> sent;
  std::vector<std::pair<site_id, std::string>> closed;
};

shared_bytes bytes_of(std::string_view text) { return make_shared_bytes(std::as_bytes(std::span(text))); }

bool soon(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000 && !condition(); ++i) std::this_thread::sleep_for(5ms);
  return condition();
}

/// A steered transport whose owner has a link to site 7.
struct steered {
  std::shared_ptr<noting_wire*> there = std::make_shared<noting_wire*>(nullptr);
  steered_transport wire{std::make_unique<noting_wire>(there), 1};
  std::atomic<int> ups{0}, downs{0};
  std::vector<std::pair<std::uint64_t, bool>> outcomes;
  noting_wire& inner() { return **there; }

  steered() {
    transport_events events;
    events.up = [this](site_id, incarnation_number) { ++ups; };
    events.down = [this](site_id, const error&) { ++downs; };
    events.sent = [this](site_id, std::uint64_t id, const expected<void>& outcome) {
      outcomes.emplace_back(id, static_cast<bool>(outcome));
    };
    wire.start(std::move(events));
    inner().events.up(7, 1);
  }
  void set(bool cut_out, bool cut_in = false, sim::path_fault worse = {}) {
    link_state s;
    s.cut_out = cut_out;
    s.cut_in = cut_in;
    s.worse = worse;
    wire.set(7, s);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(steering_test)

BOOST_AUTO_TEST_CASE(commands_are_read_as_they_were_written) {
  steering_command c;
  c.what = steering_command::kind::link;
  c.peer = coordinator_id;
  c.link = {true, false, false, true, {20ms, 3us, {}, 0.125, 0, 1e5}};
  auto read = parse_command(c.text().substr(0, c.text().size() - 1));
  BOOST_TEST_REQUIRE(static_cast<bool>(read));
  BOOST_TEST((read->what == c.what && read->peer == c.peer && read->link == c.link));
  read = parse_command("slow 2.5");
  BOOST_TEST_REQUIRE(static_cast<bool>(read));
  BOOST_TEST(read->factor == 2.5);
  for (const char* bad : {"", "slow", "slow 0", "slow x", "slow 1 2", "link 1 1 1", "link 1 1 0 0 0 -5 0 0 1", "link 1 1 0 0 0 0 0 1 1",
                          "link 1 2 0 0 0 0 0 0 1", "reset", "fly 1"})
    BOOST_TEST(!parse_command(bad), bad);
}

BOOST_AUTO_TEST_CASE(a_channel_steers_a_process) {
  int ends[2];
  BOOST_TEST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  const descriptor ours(ends[0]);
  steering theirs(ends[1]);
  const std::string said = "slow 3\nlink 7 1 0 0 0 0 0 0 1e300\nnonsense\nslow ";
  BOOST_TEST(::send(ours.get(), said.data(), said.size(), 0) == static_cast<ssize_t>(said.size()));
  BOOST_TEST(soon([&] { return theirs.slowness() == 3; }));
  auto there = std::make_shared<noting_wire*>(nullptr);
  const auto wire = theirs.over(std::make_unique<noting_wire>(there), 1);
  wire->start(
      {.up = [](site_id, incarnation_number) { BOOST_ERROR("a cut link came up"); }, .down = {}, .control = {}, .bulk = {}, .sent = {}});
  BOOST_TEST(::send(ours.get(), "4\n", 2, 0) == 2);
  BOOST_TEST(soon([&] { return theirs.slowness() == 4; }));  // so the link's state has been heard, too
  (*there)->events.up(7, 1);
  BOOST_TEST((*there)->times_closed() == 1U);
}

BOOST_AUTO_TEST_CASE(a_deserted_process_hears_of_it) {
  int ends[2];
  BOOST_TEST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  std::atomic<bool> alone{false};
  const steering theirs(ends[1], [&] { alone = true; });
  { const descriptor ours(ends[0]); }
  BOOST_TEST(soon([&] { return alone.load(); }));
}

BOOST_AUTO_TEST_CASE(both_ends_are_told_and_who_starts_later_too) {
  std::map<site_id, std::vector<std::string>> told;
  process_links net([&](site_id site, const std::string& line) { told[site].push_back(line); });
  net.cut(1, 2);
  net.worsen(2, 1, {.delay = 1ms});
  BOOST_TEST(told[1].back() == "link 2 1 0 0 0 1000000 0 0 1e+300\n");
  BOOST_TEST(told[2].back() == "link 1 0 1 0 0 1000000 0 0 1e+300\n");
  BOOST_TEST(net.standing(1).front() == told[1].back());
  BOOST_TEST(net.standing(0).empty());
  net.heal(1, 2);
  net.mend(1, 2, {.delay = 1ms});
  BOOST_TEST(told[2].back() == "link 1 0 0 0 0 0 0 0 1e+300\n");
}

BOOST_AUTO_TEST_CASE(what_is_sent_behind_a_cut_leaves_in_order_when_it_is_healed) {
  steered s;
  s.wire.send_control(7, bytes_of("a"));
  s.set(true);
  s.wire.send_control(7, bytes_of("b"));
  s.wire.send_control(7, bytes_of("c"));
  std::this_thread::sleep_for(20ms);
  BOOST_TEST(s.inner().all_sent() == std::vector<std::string>{"a"}, boost::test_tools::per_element());
  s.set(false);
  BOOST_TEST(soon([&] { return s.inner().all_sent().size() == 3; }));
  s.wire.send_control(7, bytes_of("d"));
  BOOST_TEST(s.inner().all_sent() == (std::vector<std::string>{"a", "b", "c", "d"}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_cut_link_that_went_down_stays_down_and_its_messages_are_lost) {
  steered s;
  s.set(true, true);
  s.wire.send_bulk(7, 42, bytes_of("h"), bytes_of("payload"));
  s.inner().events.down(7, {errc::timed_out, "silence"});
  BOOST_TEST(s.downs == 1);
  BOOST_TEST_REQUIRE(s.outcomes.size() == 1U);
  BOOST_TEST((s.outcomes[0] == std::pair<std::uint64_t, bool>(42, false)));
  s.inner().events.up(7, 2);  // the wire below knows of no cut
  BOOST_TEST(s.ups == 1);
  BOOST_TEST(s.inner().times_closed() == 1U);
  s.inner().events.down(7, {errc::disconnected, "closed"});
  BOOST_TEST(s.downs == 1);
  s.set(false);
  s.inner().events.up(7, 2);
  BOOST_TEST(s.ups == 2);
}

BOOST_AUTO_TEST_CASE(a_delayed_frame_leaves_later_and_a_torn_one_is_a_byte_short) {
  steered s;
  s.set(false, false, {.delay = 60ms});
  const auto before = std::chrono::steady_clock::now();
  s.wire.tear_next();
  s.wire.send_control(7, bytes_of("control"));
  s.wire.send_bulk(7, 1, bytes_of("h"), bytes_of("bulk"));
  s.wire.send_bulk(7, 2, bytes_of("h"), bytes_of("bulk"));
  BOOST_TEST(soon([&] { return s.inner().all_sent().size() == 3; }));
  BOOST_TEST((std::chrono::steady_clock::now() - before >= 60ms));
  BOOST_TEST(s.inner().all_sent() == (std::vector<std::string>{"control", "bul", "bulk"}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_SUITE_END()
