#include "framework/sim/network.hpp"

#include <boost/test/unit_test.hpp>

#include <string>
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

BOOST_AUTO_TEST_SUITE_END()
