#include "framework/sim/network.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

using namespace isthmus;
using namespace std::chrono_literals;

namespace {

shared_bytes text(std::string_view s) { return make_shared_bytes(std::as_bytes(std::span(s.data(), s.size()))); }
std::string text_of(const shared_bytes& b) { return {reinterpret_cast<const char*>(b->data()), b->size()}; }

struct two_sites {
  sim::world world{11};
  sim::network net{world};
  std::vector<std::string> seen;
  std::unique_ptr<transport> a = make(0), b = make(1);

  std::unique_ptr<transport> make(site_id site, std::string run = "r") {
    auto t = net.make_transport({run, 1, {}, site, 1});
    const std::string me = std::to_string(site);
    t->start(
        {[=, this](site_id p, incarnation_number) { seen.push_back(me + " up " + std::to_string(p)); },
         [=, this](site_id p, error e) { seen.push_back(me + " down " + std::to_string(p) + " " + std::string(describe(e.code))); },
         [=, this](site_id, shared_bytes x) { seen.push_back(me + " control " + text_of(x)); },
         [=, this](site_id, shared_bytes h, shared_bytes x) { seen.push_back(me + " bulk " + text_of(h) + ":" + text_of(x)); },
         [=, this](site_id, std::uint64_t id, expected<void> ok) {
           seen.push_back(me + " sent " + std::to_string(id) + (ok ? " ok" : " failed"));
         },
         [=, this](site_id p, error e) { seen.push_back(me + " refused " + std::to_string(p) + " " + std::string(describe(e.code))); }});
    return t;
  }
  void connect() {
    a->keep(1, "");
    b->keep(0, "");
    run_for(1s);
    seen.clear();
  }
  void run_for(duration d) {
    const time_point end = world.now() + d;
    while (world.next_due() && *world.next_due() <= end) {
      world.advance_to(*world.next_due());
      while (world.run_due()) {}
    }
    world.advance_to(end);
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(network_test, two_sites)

BOOST_AUTO_TEST_CASE(both_ends_come_up_and_messages_arrive_in_order) {
  a->keep(1, "");
  b->keep(0, "");
  run_for(1s);
  BOOST_TEST((seen == std::vector<std::string>{"0 up 1", "1 up 0"}));
  seen.clear();
  a->send_control(1, text("one"));
  a->send_bulk(1, 7, text("h"), text("payload"));
  a->send_control(1, text("two"));
  run_for(1s);
  BOOST_TEST((seen == std::vector<std::string>{"1 control one", "1 bulk h:payload", "1 control two", "0 sent 7 ok"}));
}

BOOST_AUTO_TEST_CASE(a_slow_path_takes_the_time_its_rate_says) {
  connect();
  net.set_all_paths({10ms, 0ns, 1e6, 0, 0ns});
  const time_point start = world.now();
  a->send_bulk(1, 1, text(""), std::make_shared<const buffer>(1000000));
  while (seen.empty()) {
    world.advance_to(*world.next_due());
    while (world.run_due()) {}
  }
  const double took = to_seconds(world.now() - start);
  BOOST_TEST(took > 1.0);
  BOOST_TEST(took < 1.02);
}

BOOST_AUTO_TEST_CASE(faults_of_one_path_add_up_and_each_ends_by_itself) {
  connect();
  const auto delay = [&] { return net.path(0, 1).delay; };
  const duration before = delay();
  const sim::path_fault slow{.delay = 100ms}, slower{.delay = 300ms, .loss = 0.2};
  net.worsen(0, 1, slow);
  net.worsen(1, 0, slower);
  BOOST_TEST((delay() == before + 400ms && net.path(1, 0).loss == 0.2));
  net.mend(0, 1, slow);
  BOOST_TEST((delay() == before + 300ms));
  net.mend(0, 1, slower);
  BOOST_TEST((delay() == before && net.path(1, 0).loss == 0));
  BOOST_CHECK_THROW(net.mend(0, 1, slow), contract_error);
}

BOOST_AUTO_TEST_CASE(a_cut_is_silent_until_somebody_closes) {
  connect();
  net.cut_both(0, 1);
  a->send_bulk(1, 1, text("h"), text("x"));
  run_for(30s);
  BOOST_TEST(seen.empty());
  a->close(1, {errc::timed_out, "no heartbeat"});
  run_for(10s);
  BOOST_TEST((seen == std::vector<std::string>{"0 sent 1 failed", "0 down 1 timed_out", "1 down 0 timed_out"}));
  seen.clear();
  net.heal_all();
  run_for(20s);
  BOOST_TEST(seen.size() == 2U);  // both up again
}

BOOST_AUTO_TEST_CASE(what_was_sent_into_a_cut_arrives_in_order_once_a_retransmission_is_due) {
  connect();
  net.cut(0, 1);
  a->send_control(1, text("one"));
  a->send_control(1, text("two"));
  b->send_control(0, text("the other way"));
  run_for(2s);
  BOOST_TEST((seen == std::vector<std::string>{"0 control the other way"}));
  net.cut(0, 1);
  net.heal(0, 1);  // one of two: still cut
  run_for(10s);
  BOOST_TEST(seen.size() == 1U);
  net.heal(0, 1);
  a->send_control(1, text("three"));
  run_for(12s);  // not longer than the cut itself
  BOOST_TEST((seen == std::vector<std::string>{"0 control the other way", "1 control one", "1 control two", "1 control three"}));
}

BOOST_AUTO_TEST_CASE(a_cut_that_somebody_noticed_loses_what_was_under_way) {
  connect();
  net.cut_both(0, 1);
  a->send_control(1, text("lost"));
  run_for(1s);
  a->close(1, {errc::timed_out, "no heartbeat"});
  net.heal_all();
  run_for(20s);
  a->send_control(1, text("new"));
  run_for(1s);
  BOOST_TEST(seen.back() == "1 control new");
  for (const auto& line : seen) BOOST_TEST(line != "1 control lost");
}

BOOST_AUTO_TEST_CASE(held_frames_wait_and_are_not_lost) {
  connect();
  net.hold(0, 1);
  a->send_control(1, text("one"));
  a->send_bulk(1, 3, text("h"), text("x"));
  run_for(30s);
  BOOST_TEST(seen.empty());
  net.release(0, 1);
  run_for(1s);
  BOOST_TEST((seen == std::vector<std::string>{"1 control one", "1 bulk h:x", "0 sent 3 ok"}));
}

BOOST_AUTO_TEST_CASE(with_jitter_control_may_overtake_bulk_and_never_itself) {
  connect();
  net.set_all_paths({.delay = 1ms, .jitter = 50ms});
  bool overtaken = false;
  for (int i = 0; i < 20; ++i) {
    seen.clear();
    a->send_bulk(1, 1, text("h"), text("x"));
    a->send_control(1, text("one"));
    a->send_control(1, text("two"));
    run_for(1s);
    std::erase(seen, "0 sent 1 ok");
    overtaken = overtaken || seen.front() == "1 control one";
    std::erase(seen, "1 bulk h:x");
    BOOST_TEST((seen == std::vector<std::string>{"1 control one", "1 control two"}));
  }
  BOOST_TEST(overtaken);
}

BOOST_AUTO_TEST_CASE(a_reset_is_noticed_by_both_and_they_connect_again) {
  connect();
  net.reset(0, 1);
  run_for(10s);
  BOOST_TEST((seen == std::vector<std::string>{"0 down 1 disconnected", "1 down 0 disconnected", "0 up 1", "1 up 0"}));
}

BOOST_AUTO_TEST_CASE(an_ended_process_is_noticed_and_its_successor_reconnects) {
  connect();
  b.reset();
  run_for(1s);
  BOOST_TEST((seen == std::vector<std::string>{"0 down 1 disconnected"}));
  b = make(1);
  b->keep(0, "");
  run_for(1s);
  BOOST_TEST(seen.back() == "1 up 0");
}

BOOST_AUTO_TEST_CASE(a_torn_frame_is_one_byte_short) {
  connect();
  net.tear_next(0);
  a->send_bulk(1, 1, text("h"), text("payload"));
  a->send_bulk(1, 2, text("h"), text("payload"));
  run_for(1s);
  BOOST_TEST(seen.at(0) == "1 bulk h:payloa");
  BOOST_TEST(seen.at(1) == "1 bulk h:payload");
}

BOOST_AUTO_TEST_CASE(another_run_is_refused) {
  b = make(1, "other");
  a->keep(1, "");
  b->keep(0, "");
  run_for(1s);
  BOOST_TEST(seen.at(0) == "1 refused 0 wrong_run");
}

BOOST_AUTO_TEST_CASE(bulk_messages_may_come_twice_and_overtake_each_other_and_control_frames_never) {
  connect();
  const sim::path_fault hurt{.reorder = 500ms, .duplicate = 0.5};
  net.worsen(0, 1, hurt);
  const auto deliver = [&] {
    for (int i = 0; i < 40; ++i) {
      a->send_control(1, text(std::to_string(i)));
      a->send_bulk(1, static_cast<std::uint64_t>(i), text("h"), text(std::to_string(i)));
    }
    run_for(5s);
    std::vector<int> control, bulk;
    for (const auto& s : std::exchange(seen, {})) {
      if (s.starts_with("1 control ")) control.push_back(std::stoi(s.substr(10)));
      if (s.starts_with("1 bulk h:")) bulk.push_back(std::stoi(s.substr(9)));
    }
    BOOST_TEST(control.size() == 40U);
    BOOST_TEST(std::ranges::is_sorted(control));
    return bulk;
  };
  auto bulk = deliver();
  BOOST_TEST((bulk.size() > 50U && bulk.size() < 70U));
  BOOST_TEST(!std::ranges::is_sorted(bulk));
  std::ranges::sort(bulk);
  bulk.erase(std::unique(bulk.begin(), bulk.end()), bulk.end());
  BOOST_TEST(bulk.size() == 40U);
  net.mend(0, 1, hurt);
  bulk = deliver();
  BOOST_TEST(bulk.size() == 40U);
  BOOST_TEST(std::ranges::is_sorted(bulk));
}

BOOST_AUTO_TEST_CASE(a_frame_that_does_not_open_ends_the_connection) {
  connect();
  net.corrupt_next(0, 1);
  b->send_control(0, text("the other way"));
  run_for(1s);
  BOOST_TEST((seen == std::vector<std::string>{"0 control the other way"}));
  seen.clear();
  a->send_control(1, text("damaged"));
  a->send_control(1, text("behind it"));
  run_for(10ms);
  BOOST_TEST((seen == std::vector<std::string>{"1 down 0 checksum_mismatch", "0 down 1 disconnected"}));
  seen.clear();
  run_for(1s);
  a->send_control(1, text("whole"));
  run_for(1s);
  BOOST_TEST(seen.back() == "1 control whole");
}

BOOST_AUTO_TEST_SUITE_END()
