#include "framework/emulator/tun_network.hpp"

#include <boost/test/unit_test.hpp>

#include <arpa/inet.h>
#include <chrono>
#include <future>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace isthmus;
using namespace isthmus::emulator;
using namespace std::chrono_literals;

namespace {

/// A network of two sites and the coordinator, or none where the system allows none.
std::unique_ptr<tun_network> make_network() {
  auto made = tun_network::make({0, 1, coordinator_id}, 1);
  if (made) return std::move(*made);
  BOOST_WARN_MESSAGE(false, "SKIPPED, no network namespaces here: " << made.error().message);
  return nullptr;
}

/// A socket of that namespace, made by a thread that enters it and ends.
descriptor socket_at(const tun_network& net, site_id site, int type, std::uint16_t port) {
  return std::async(std::launch::async,
                    [&] {
                      BOOST_TEST(::setns(net.space_of(site), CLONE_NEWNET) == 0);
                      descriptor made(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
                      sockaddr_in own{};
                      own.sin_family = AF_INET;
                      own.sin_port = htons(port);
                      ::inet_pton(AF_INET, tun_network::host_of(site).c_str(), &own.sin_addr);
                      BOOST_TEST(::bind(made.get(), reinterpret_cast<sockaddr*>(&own), sizeof own) == 0);
                      return made;
                    })
      .get();
}

sockaddr_in address(site_id site, std::uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  ::inet_pton(AF_INET, tun_network::host_of(site).c_str(), &a.sin_addr);
  return a;
}

bool readable(const descriptor& d, std::chrono::milliseconds within) {
  pollfd wait{d.get(), POLLIN, 0};
  return ::poll(&wait, 1, static_cast<int>(within.count())) == 1;
}

void say(const descriptor& from, site_id to, const char* text) {
  const auto where = address(to, 7000);
  BOOST_TEST(::sendto(from.get(), text, 1, 0, reinterpret_cast<const sockaddr*>(&where), sizeof where) == 1);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tun_network_test)

BOOST_AUTO_TEST_CASE(datagrams_cross_late_or_not_at_all) {
  const auto net = make_network();
  if (!net) return;
  const auto a = socket_at(*net, 0, SOCK_DGRAM, 7000), b = socket_at(*net, coordinator_id, SOCK_DGRAM, 7000);
  char got = 0;
  say(a, coordinator_id, "1");
  BOOST_TEST(readable(b, 10s));
  BOOST_TEST(::recv(b.get(), &got, 1, 0) == 1);
  BOOST_TEST(got == '1');
  const sim::path_fault late{.delay = 150ms};
  net->worsen(0, coordinator_id, late);
  const auto before = std::chrono::steady_clock::now();
  say(b, 0, "2");
  BOOST_TEST(readable(a, 10s));
  BOOST_TEST((std::chrono::steady_clock::now() - before >= 150ms));
  net->mend(0, coordinator_id, late);
  net->cut(0, coordinator_id);
  say(a, coordinator_id, "3");
  BOOST_TEST(!readable(b, 200ms));
  net->heal(0, coordinator_id);
  say(a, coordinator_id, "4");
  BOOST_TEST(readable(b, 10s));
  BOOST_TEST(::recv(b.get(), &got, 1, 0) == 1);
  BOOST_TEST(got == '4');
  BOOST_TEST(net->counters().cut == 1U);
}

BOOST_AUTO_TEST_CASE(a_reset_breaks_a_connection_at_both_ends) {
  const auto net = make_network();
  if (!net) return;
  const auto listener = socket_at(*net, 1, SOCK_STREAM, 7000), caller = socket_at(*net, 0, SOCK_STREAM, 7001);
  BOOST_TEST_REQUIRE(::listen(listener.get(), 1) == 0);
  const auto where = address(1, 7000);
  BOOST_TEST_REQUIRE(::connect(caller.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) == 0);
  const descriptor answered(::accept(listener.get(), nullptr, nullptr));
  char text[] = "hello";
  BOOST_TEST(::send(caller.get(), text, 5, 0) == 5);
  BOOST_TEST(::recv(answered.get(), text, 5, MSG_WAITALL) == 5);
  std::this_thread::sleep_for(100ms);  // acknowledged, also where that waits
  net->reset(0, 1);
  for (const auto* end : {&caller, &answered}) {
    BOOST_TEST_REQUIRE(readable(*end, 10s));
    BOOST_TEST(::recv(end->get(), text, 1, 0) == -1);
    BOOST_TEST(errno == ECONNRESET);
  }
}

BOOST_AUTO_TEST_CASE(a_process_sees_the_devices_of_its_namespace_and_no_others) {
  const auto net = make_network();
  if (!net) return;
  const pid_t child = ::fork();
  if (child == 0) {
    const bool entered = static_cast<bool>(enter_space(net->space_of(1)));
    ::_exit(!entered ? 2 : ::access("/sys/class/net/isthmus0/mtu", R_OK) == 0 ? 0 : 1);
  }
  int status = 0;
  BOOST_TEST(::waitpid(child, &status, 0) == child);
  BOOST_TEST(WEXITSTATUS(status) == 0);
  BOOST_TEST(::access("/sys/class/net/isthmus0", R_OK) != 0);
}

BOOST_AUTO_TEST_SUITE_END()
