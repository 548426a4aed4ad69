// Against real members of etcd, of its Debian package.
#include "framework/transport/etcd_client.hpp"
#include "framework/transport/etcd_log.hpp"
#include "tests/etcd/cluster.hpp"

#include <boost/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include <atomic>
#include <chrono>
#include <iostream>
#include <map>
#include <netinet/in.h>
#include <optional>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;

namespace {

constexpr link_reach reach{.sealed = true, .test_network = false};
const real_clock time_source;

struct one_member {
  one_member() : etcd(1) {}
  etcd_client client() const { return std::move(*etcd_client::make(etcd.urls(), reach, 1s)); }
  etcd_cluster etcd;
};

coordinator_entry epoch(epoch_number number) {
  coordinator_entry entry;
  entry.view.number = number;
  entry.view.members = {{0, 1, false, 0}, {1, 3, true, 0}};
  entry.view.cuts = {{0, 1, 5, 4, {1, 2}, {3, 4}, 1}};
  entry.view.reason = "the run \"begins\": " + std::to_string(number);
  return entry;
}

std::unique_ptr<etcd_log> lead(etcd_client client, const std::string& name, std::int64_t lease_seconds = 4) {
  auto log = etcd_log::lead(
      std::move(client), {"run-1", name, "127.0.0.1:7000", "00ff", lease_seconds}, time_source, [] { return false; }, [](auto) {});
  BOOST_REQUIRE_MESSAGE(log.has_value(), (log ? "" : log.error().message));
  return std::move(*log);
}

void end_lease_of_leader(const etcd_client& client) {
  const auto leader = *client.get("/isthmus/run-1/leader");
  BOOST_REQUIRE(leader.has_value());
  const auto lease = nlohmann::json::parse(leader->value).at("lease").get<std::string>();
  BOOST_REQUIRE(client.revoke(std::stoll(lease)).has_value());
}

/// Listens, and never says a word.
struct silent_port {
  silent_port() : fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    auto* raw = reinterpret_cast<sockaddr*>(&at);
    BOOST_REQUIRE((::bind(fd, raw, size) == 0 && ::listen(fd, 8) == 0 && ::getsockname(fd, raw, &size) == 0));
    url = "http://127.0.0.1:" + std::to_string(ntohs(at.sin_port));
  }
  ~silent_port() { ::close(fd); }
  int fd;
  std::string url;
};

using script = std::map<std::string, std::string>;  // what a path answers

/// Says to each path what it was told to say.
struct scripted_member : silent_port {
  explicit scripted_member(script says) : answers(std::move(says)) {
    talking = std::thread([this] {
      for (int caller = 0; (caller = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC)) >= 0; ::close(caller)) {
        std::string heard(4096, ' ');
        std::size_t size = 0;  // a small request comes in one piece or two
        while (heard.find("\r\n\r\n{") >= size && size < heard.size()) {
          const ssize_t n = ::recv(caller, heard.data() + size, heard.size() - size, 0);
          if (n <= 0) break;
          size += static_cast<std::size_t>(n);
        }
        const auto begin = heard.find(' ') + 1;
        const auto body = answers.at(heard.substr(begin, heard.find(' ', begin) - begin));
        const std::string all =
            "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n" + body;
        if (::send(caller, all.data(), all.size(), MSG_NOSIGNAL) < 0) continue;
      }
    });
  }
  ~scripted_member() {
    ::shutdown(fd, SHUT_RDWR);
    talking.join();
  }
  script answers;
  std::thread talking;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(etcd_in_trouble)

BOOST_AUTO_TEST_CASE(a_member_that_is_shutting_down_is_passed_over) {
  const scripted_member closing(script{{"/v3/kv/range", R"({"error":"grpc: the client connection is closing","code":1})"}});
  const scripted_member well(script{{"/v3/kv/range", R"({"header":{}})"}});
  const auto both = *etcd_client::make({closing.url, well.url}, reach, 1s);
  BOOST_TEST(both.get("/k").has_value());
  const auto alone = (*etcd_client::make({closing.url}, reach, 1s)).get("/k");
  BOOST_TEST_REQUIRE(!alone.has_value());
  BOOST_TEST(static_cast<int>(alone.error().code) == static_cast<int>(errc::timed_out));  // it passes
}

BOOST_AUTO_TEST_CASE(who_was_too_slow_for_its_own_lease_stands_for_the_lead_again) {
  const scripted_member slow(script{{"/v3/kv/range", R"({"header":{}})"},
                                    {"/v3/lease/grant", R"({"ID":"7","TTL":"4"})"},
                                    {"/v3/kv/txn", R"({"error":"etcdserver: requested lease not found","code":5})"}});
  int asked = 0;
  const auto log = etcd_log::lead(
      *etcd_client::make({slow.url}, reach, 1s), {"run-1", "coordinator", "", "", 4}, time_source, [&] { return ++asked > 3; },
      [](auto) {});
  BOOST_TEST_REQUIRE(!log.has_value());
  BOOST_TEST(static_cast<int>(log.error().code) == static_cast<int>(errc::timed_out));  // given up, and not before
  BOOST_TEST(asked == 4);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(etcd, one_member)

BOOST_AUTO_TEST_CASE(a_key_is_made_once_and_only_while_its_guard_holds) {
  const auto c = client();
  BOOST_TEST(!c.get("/a/x")->has_value());
  BOOST_TEST(c.create("/a/x", std::string("any\0\xff bytes", 11), 0)->made);
  const auto x = **c.get("/a/x");
  BOOST_TEST(x.value == std::string("any\0\xff bytes", 11));
  const auto again = *c.create("/a/x", "other", 0);
  BOOST_TEST(!again.made);
  BOOST_TEST(again.there.value().value == x.value);
  BOOST_TEST(c.create("/a/y", "1", 0, etcd_client::condition{"/a/x", x.created})->made);
  const auto fenced = *c.create("/a/z", "1", 0, etcd_client::condition{"/a/x", x.created + 1});
  BOOST_TEST(!fenced.made);
  BOOST_TEST(!fenced.there.has_value());
  BOOST_TEST(fenced.guard.value().created == x.created);
  BOOST_TEST(!c.get("/a/z")->has_value());
}

BOOST_AUTO_TEST_CASE(more_keys_than_one_answer_holds_are_all_listed_in_order) {
  const auto c = client();
  for (int i = 0; i < 600; ++i) BOOST_REQUIRE(c.create("/many/" + std::to_string(1000 + i), std::to_string(i), 0)->made);
  BOOST_REQUIRE(c.create("/many0", "beside", 0)->made);
  const auto all = *c.list("/many/");
  BOOST_TEST_REQUIRE(all.size() == 600U);
  for (int i = 0; i < 600; ++i) BOOST_TEST(all[static_cast<std::size_t>(i)].value == std::to_string(i));
}

BOOST_AUTO_TEST_CASE(what_hangs_on_a_lease_goes_with_it) {
  const auto c = client();
  const auto lease = *c.grant(2);
  BOOST_TEST(c.create("/leased", "1", lease)->made);
  BOOST_TEST(*c.renew(lease));
  BOOST_TEST(c.get("/leased")->has_value());
  BOOST_TEST(c.revoke(lease).has_value());
  BOOST_TEST(!*c.renew(lease));
  BOOST_TEST(!c.get("/leased")->has_value());
  BOOST_TEST(c.revoke(lease).has_value());  // no error: it is gone
  const auto refused = c.create("/leased", "1", lease);
  BOOST_TEST_REQUIRE(!refused.has_value());
  BOOST_TEST(refused.error().message.find("lease not found") != std::string::npos, refused.error().message);
}

BOOST_AUTO_TEST_CASE(members_that_do_not_answer_are_passed_over_and_named) {
  const silent_port silent;
  const auto c = *etcd_client::make({silent.url, "http://127.0.0.1:1", etcd.urls()[0]}, reach, 500ms);
  BOOST_TEST(c.create("/k", "v", 0)->made);
  const auto began = time_source.now();
  BOOST_TEST(c.get("/k")->has_value());  // the one that answered is asked first
  BOOST_TEST((time_source.now() - began < 400ms));
  const auto alone = *etcd_client::make({silent.url, "http://127.0.0.1:1"}, reach, 200ms);
  const auto failed = alone.get("/k");
  BOOST_TEST_REQUIRE(!failed.has_value());
  for (const auto& part : {silent.url + ": no answer in time", std::string("http://127.0.0.1:1: Connection refused")})
    BOOST_TEST(failed.error().message.find(part) != std::string::npos, failed.error().message);
}

BOOST_AUTO_TEST_CASE(addresses_are_loopback_or_private) {
  for (const auto* bad :
       {"http://8.8.8.8:2379", "https://127.0.0.1:2379", "127.0.0.1:2379", "http://etcd.example:2379", "http://127.0.0.1"})
    BOOST_TEST(!etcd_client::make({bad}, reach, 1s).has_value(), bad);
  BOOST_TEST(!etcd_client::make({}, reach, 1s).has_value());
  BOOST_TEST(etcd_client::make({"http://[::1]:2379", "http://10.1.2.3:2379"}, reach, 1s).has_value());
}

BOOST_AUTO_TEST_CASE(the_next_leader_reads_what_the_one_before_has_written) {
  const auto first = lead(client(), "coordinator");
  BOOST_TEST(first->entries().empty());
  BOOST_TEST(!first->append(epoch(2)).has_value());
  BOOST_TEST(first->append(epoch(1)).has_value());
  BOOST_TEST(first->append(epoch(2)).has_value());
  first->resign();
  const auto second = lead(client(), "coordinator-2");
  BOOST_TEST((second->entries() == std::vector{epoch(1), epoch(2)}));
  BOOST_TEST(second->term() > first->term());
  auto end = epoch(2);
  end.end = true;
  BOOST_TEST(second->append(end).has_value());
}

BOOST_AUTO_TEST_CASE(of_two_that_lead_at_once_one_writes) {
  const auto old = lead(client(), "coordinator");
  BOOST_TEST(old->append(epoch(1)).has_value());
  std::atomic<bool> lost = false;
  old->when_lost([&](const error& why) { lost = why.code == errc::stale_epoch; });
  end_lease_of_leader(client());  // as after a long pause: it does not know yet
  const auto now = lead(client(), "coordinator-2");
  const auto refused = old->append(epoch(2));
  BOOST_TEST_REQUIRE(!refused.has_value());
  BOOST_TEST(static_cast<int>(refused.error().code) == static_cast<int>(errc::stale_epoch));
  BOOST_TEST(refused.error().message.find("coordinator-2 leads now") != std::string::npos, refused.error().message);
  BOOST_TEST(client().list("/isthmus/run-1/log/")->size() == 1U);
  BOOST_TEST(now->append(epoch(2)).has_value());
  const auto late = old->append(epoch(2));
  BOOST_TEST(!late.has_value());
  for (int i = 0; i < 100 && !lost; ++i) std::this_thread::sleep_for(50ms);
  BOOST_TEST(lost);
}

BOOST_AUTO_TEST_CASE(who_waits_leads_once_the_lease_of_a_dead_one_has_ended) {
  auto dead = lead(client(), "coordinator");
  std::atomic<bool> leads = false;
  std::vector<std::string> told;
  std::thread waiting([&] {
    const auto log = etcd_log::lead(
        client(), {"run-1", "coordinator-2", "", "", 4}, time_source, [] { return false; }, [&](auto what) { told.push_back(what); });
    leads = log.has_value();
  });
  std::this_thread::sleep_for(6s);  // longer than the lease, which is kept
  BOOST_TEST(!leads);
  dead.reset();  // no resignation: as if it had been killed
  const auto began = time_source.now();
  waiting.join();
  BOOST_TEST(leads);
  std::cout << "etcd: a leader killed, the next one leads after " << to_seconds(time_source.now() - began) << " s with a lease of 4 s\n";
  BOOST_TEST((time_source.now() - began < 10s));
  BOOST_TEST(told.size() == 1U);
  BOOST_TEST(told.front() == "coordinator leads");
}

BOOST_AUTO_TEST_CASE(a_log_with_a_hole_or_foreign_text_is_refused) {
  BOOST_REQUIRE(client().create("/isthmus/run-1/log/00000001", to_line(epoch(1)), 0)->made);
  const auto hole = etcd_log::lead(
      client(), {"run-1", "coordinator", "", "", 4}, time_source, [] { return false; }, [](auto) {});
  BOOST_TEST_REQUIRE(!hole.has_value());
  BOOST_TEST(hole.error().message.find("an entry is missing") != std::string::npos, hole.error().message);
  BOOST_REQUIRE(client().create("/isthmus/run-1/log/00000000", "{}", 0)->made);
  const auto foreign = etcd_log::lead(
      client(), {"run-1", "coordinator", "", "", 4}, time_source, [] { return false; }, [](auto) {});
  BOOST_TEST_REQUIRE(!foreign.has_value());
  BOOST_TEST(foreign.error().message.find("/isthmus/run-1/log/00000000") != std::string::npos, foreign.error().message);
}

BOOST_AUTO_TEST_CASE(a_leader_without_etcd_steps_down_when_its_lease_may_have_ended) {
  const auto log = lead(client(), "coordinator", 2);
  std::atomic<bool> lost = false;
  std::string why;
  log->when_lost([&](const error& e) {
    why = e.message;
    lost = true;
  });
  etcd.kill(0);
  const auto began = time_source.now();
  const auto refused = log->append(epoch(1));  // waits for etcd, but not for ever
  BOOST_TEST_REQUIRE(!refused.has_value());
  BOOST_TEST(static_cast<int>(refused.error().code) == static_cast<int>(errc::stale_epoch));
  BOOST_TEST(lost);
  BOOST_TEST((time_source.now() - began < 20s));
  BOOST_TEST(why.find("rounds go on") != std::string::npos, why);
  BOOST_TEST(why.find("Connection refused") != std::string::npos, why);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(etcd_of_three)

BOOST_AUTO_TEST_CASE(the_log_goes_on_when_a_member_is_killed) {
  etcd_cluster etcd(3);
  const auto make = [&] { return std::move(*etcd_client::make(etcd.urls(), reach, 1s)); };
  const auto log = lead(make(), "coordinator", 10);  // an election of etcd's own takes a second or two
  BOOST_TEST(log->append(epoch(1)).has_value());
  const auto leader = etcd.leader();
  etcd.kill(leader);
  const auto began = time_source.now();
  BOOST_TEST(log->append(epoch(2)).has_value());
  std::cout << "etcd of three: its leader killed, an entry is written after " << to_seconds(time_source.now() - began) << " s\n";
  BOOST_TEST(log->append(epoch(3)).has_value());
  etcd.start(leader);
  log->resign();
  BOOST_TEST((lead(make(), "coordinator-2")->entries() == std::vector{epoch(1), epoch(2), epoch(3)}));
}

BOOST_AUTO_TEST_SUITE_END()
