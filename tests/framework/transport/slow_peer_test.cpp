#include "framework/transport/address.hpp"
#include "tests/framework/transport/probe.hpp"

#include <boost/test/unit_test.hpp>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(slow_peer)

namespace {

/// Stands between a peer that dials and the one it dials, hands on what both say on the control path, and can say something itself.
class relay {
public:
  explicit relay(const std::string& to) : to_(*parse_address(to)), own_(*parse_address("127.0.0.1:0")) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ensure(::bind(listener_, own_.get(), own_.size) == 0 && ::listen(listener_, 4) == 0, "relay: listen");
    own_.size = sizeof own_.storage;
    ensure(::getsockname(listener_, reinterpret_cast<sockaddr*>(&own_.storage), &own_.size) == 0, "relay: address");
    outward_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ensure(::connect(outward_, to_.get(), to_.size) == 0, "relay: connect");
    thread_ = std::thread([this] { hand_on(); });
  }
  ~relay() {
    ended_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    for (const int s : {listener_, inward_, outward_})
      if (s >= 0) ::close(s);
  }
  relay(const relay&) = delete;
  relay& operator=(const relay&) = delete;

  std::string address() const { return own_.text(); }
  /// From now on the dialled one hears only this; false once it has hung up.
  bool say(const std::string& bytes) {
    alone_ = true;
    std::this_thread::sleep_for(50ms);  // what was under way is through
    return ::send(outward_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }

private:
  void hand_on() {
    inward_ = ::accept(listener_, nullptr, nullptr);
    std::array<pollfd, 2> sockets{pollfd{inward_, POLLIN, 0}, pollfd{outward_, POLLIN, 0}};
    std::array<char, 4096> chunk;
    while (!ended_) {
      if (::poll(sockets.data(), sockets.size(), 10) <= 0) continue;
      for (std::size_t i = 0; i < 2; ++i) {
        if (sockets[i].revents == 0) continue;
        const auto n = ::recv(sockets[i].fd, chunk.data(), chunk.size(), 0);
        if (n <= 0) return;
        if (i == 1 || !alone_) [[maybe_unused]]
          const auto sent = ::send(sockets[1 - i].fd, chunk.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL);
      }
    }
  }

  socket_address to_, own_;
  int listener_ = -1, inward_ = -1, outward_ = -1;
  std::atomic<bool> alone_ = false, ended_ = false;
  std::thread thread_;
};

/// A link that is up, then what the peer says on it: the reason that it ends for.
error told(const std::function<void(relay&)>& speak) {
  auto options = options_of(0);
  options.frame_timeout = 500ms;
  probe a(options), b(options_of(1));
  relay between(a.wire().address());
  a.wire().keep(1, "");
  b.wire().keep(0, between.address());
  BOOST_REQUIRE(a.wait_up() && b.wait_up());
  speak(between);
  BOOST_REQUIRE(a.wait_down());
  return a.now().downs.at(0).second;
}

}  // namespace

BOOST_AUTO_TEST_CASE(half_a_frame_and_then_silence_ends_the_link) {
  const auto why = told([](relay& r) { r.say(std::string("\x20\0\0\0\x04half", 9)); });
  BOOST_TEST((why.code == errc::timed_out));
  BOOST_TEST(why.message == "half a control frame and then nothing");
}

BOOST_AUTO_TEST_CASE(a_byte_at_a_time_does_not_put_the_deadline_off) {
  int bytes = 0;
  const auto why = told([&](relay& r) {
    r.say(std::string("\xff\0\0\0\x04", 5));
    while (bytes < 200 && r.say("x")) ++bytes;
  });
  BOOST_TEST((why.code == errc::timed_out));
  BOOST_TEST(bytes < 200);  // of the 254 that the frame names
}

BOOST_AUTO_TEST_CASE(frames_that_cannot_be_end_the_link_at_once) {
  const auto none = told([](relay& r) { r.say(std::string(4, '\0')); });
  BOOST_TEST((none.code == errc::malformed));
  BOOST_TEST(none.message == "control frame: its length is 0");
  const auto huge = told([](relay& r) { r.say(std::string(4, '\xff')); });
  BOOST_TEST((huge.code == errc::too_large));
  BOOST_TEST(huge.message.find("a length of 4294967295; at most 1048577") != std::string::npos, huge.message);
  const auto unknown = told([](relay& r) { r.say(std::string("\x05\0\0\0\x7f", 5)); });
  BOOST_TEST(unknown.message == "control frame: unknown kind 127");
  const auto late = told([](relay& r) { r.say(std::string("\x01\0\0\0\x01", 5)); });  // a second greeting
  BOOST_TEST(late.message.find("that has no place here") != std::string::npos, late.message);
}

BOOST_AUTO_TEST_SUITE_END()
