// A link between two processes on loopback against raw TCP sockets between the same two, alternately in the same run: goodput of bulk
// messages, and round trip of 64-byte control messages. Usage: link_bench [payload MiB [messages]]
#include "bench/report.hpp"
#include "framework/transport/ucx_transport.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using namespace isthmus;

namespace {

constexpr std::size_t ping_bytes = 64;
constexpr int pings = 500, runs = 5;

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// TCP itself is the limit of what goes over TCP, and of a message's round trip.
void say(const char* name, const char* unit, const std::vector<double>& ours, const std::vector<double>& raw, bool less_is_better) {
  bench::figure f;
  f.name = name;
  f.unit = unit;
  f.value = bench::median(ours);
  f.peer = f.limit = "raw TCP socket";
  f.peer_value = bench::median(raw);
  f.less_is_better = less_is_better;
  f.share = less_is_better ? *f.peer_value / f.value : f.value / *f.peer_value;
  f.runs = static_cast<int>(ours.size());
  f.spread = bench::spread(ours);
  bench::print(f);
}

void read_all(int socket, void* to, std::size_t bytes) {
  for (auto* at = static_cast<char*>(to); bytes > 0;) {
    const ssize_t n = ::recv(socket, at, bytes, 0);
    if (n <= 0) std::_Exit(0);
    at += n;
    bytes -= static_cast<std::size_t>(n);
  }
}

void write_all(int socket, const void* from, std::size_t bytes) {
  for (const auto* at = static_cast<const char*>(from); bytes > 0;) {
    const ssize_t n = ::send(socket, at, bytes, MSG_NOSIGNAL);
    ensure(n > 0, "link_bench: the raw connection broke");
    at += n;
    bytes -= static_cast<std::size_t>(n);
  }
}

/// The other process's raw half: pongs a short message, takes a long one into a fresh buffer and says when it has it.
void serve_raw(int socket) {
  for (;;) {
    std::uint64_t bytes = 0;
    read_all(socket, &bytes, sizeof bytes);
    buffer into(bytes);
    read_all(socket, into.data(), bytes);
    write_all(socket, &bytes, sizeof bytes);
  }
}

void send_raw(int socket, std::span<const std::byte> payload) {
  std::uint64_t bytes = payload.size();
  write_all(socket, &bytes, sizeof bytes);
  write_all(socket, payload.data(), payload.size());
  read_all(socket, &bytes, sizeof bytes);
}

std::unique_ptr<transport> make_end(site_id site, const isthmus::clock& time) {
  ucx_transport_options options;
  options.hello.run_id = "link_bench";
  options.hello.site = site;
  options.log = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  auto made = make_ucx_transport(options, time);
  if (!made) {
    std::fprintf(stderr, "%s\n", made.error().message.c_str());
    std::exit(4);
  }
  return std::move(*made);
}

/// The other process: pongs control messages, takes bulk ones, until its input ends.
[[noreturn]] void other_process(int raw_listener, int input, int output) {
  std::thread([=] {
    const int socket = ::accept(raw_listener, nullptr, nullptr);
    const int on = 1;
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    serve_raw(socket);
  }).detach();
  const real_clock time;
  const auto end = make_end(0, time);
  transport_events events;
  events.up = [](site_id, incarnation_number) {};
  events.down = [](site_id, const error&) {};
  events.sent = [](site_id, std::uint64_t, const expected<void>&) {};
  events.bulk = [](site_id, const shared_bytes&, const shared_bytes&) {};
  events.control = [&](site_id from, shared_bytes bytes) { end->send_control(from, std::move(bytes)); };
  end->start(events);
  end->keep(1, "");
  std::string address = end->address();
  address.resize(64, '\0');
  ensure(::write(output, address.data(), address.size()) == 64, "pipe");
  char ignored = 0;
  while (::read(input, &ignored, 1) > 0) {}
  end->stop();
  std::_Exit(0);
}

/// Counts what has happened on our end.
class waiter {
public:
  void note(const std::string& what) {
    const std::lock_guard lock(mutex_);
    ++counts_[what];
    changed_.notify_all();
  }
  void wait(const std::string& what, int count) {
    std::unique_lock lock(mutex_);
    const bool came = changed_.wait_for(lock, std::chrono::seconds(60), [&] { return counts_[what] >= count; });
    ensure(came, "link_bench: nothing happened for a minute");
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, int> counts_;
};

int listen_raw(sockaddr_in& at) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  ensure(::bind(listener, reinterpret_cast<sockaddr*>(&at), size) == 0 && ::listen(listener, 1) == 0, "listen");
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size);
  return listener;
}

}  // namespace

int main(int argc, char** argv) {
  prepare_environment(argc, argv);
  const std::size_t payload_bytes = static_cast<std::size_t>(argc > 1 ? std::atoi(argv[1]) : 40) << 20;
  const int messages = argc > 2 ? std::atoi(argv[2]) : 8;
  sockaddr_in raw_at{};
  const int raw_listener = listen_raw(raw_at);
  int to_other[2], from_other[2];
  ensure(::pipe(to_other) == 0 && ::pipe(from_other) == 0, "pipe");
  const pid_t other = ::fork();
  if (other == 0) {
    ::close(to_other[1]);
    other_process(raw_listener, to_other[0], from_other[1]);
  }
  const int raw = ::socket(AF_INET, SOCK_STREAM, 0), on = 1;
  ensure(::connect(raw, reinterpret_cast<const sockaddr*>(&raw_at), sizeof raw_at) == 0, "connect");
  ::setsockopt(raw, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);

  const real_clock time;
  const auto end = make_end(1, time);
  waiter seen;
  transport_events events;
  events.up = [&](site_id, incarnation_number) { seen.note("up"); };
  events.down = [&](site_id, const error& why) { std::fprintf(stderr, "down: %s\n", why.message.c_str()); };
  events.sent = [&](site_id, std::uint64_t, const expected<void>& outcome) { seen.note(outcome ? "sent" : "lost"); };
  events.bulk = [](site_id, const shared_bytes&, const shared_bytes&) {};
  events.control = [&](site_id, const shared_bytes&) { seen.note("pong"); };
  end->start(events);
  char address[65] = {};
  ensure(::read(from_other[0], address, 64) == 64, "link_bench: the other process did not start");
  end->keep(0, address);
  seen.wait("up", 1);

  auto payload = std::make_shared<buffer>(payload_bytes);
  std::memset(payload->data(), 7, payload->size());
  const auto header = make_shared_bytes(std::vector<std::byte>(200));
  const auto ping = make_shared_bytes(std::vector<std::byte>(ping_bytes));
  std::vector<double> link_rate, raw_rate, link_ping, raw_ping;
  int sent = 0, ponged = 0;
  const double bytes = static_cast<double>(payload_bytes) * messages;
  for (int run = 0; run <= runs; ++run) {  // the first warms up
    const double link = seconds_of([&] {
      for (int i = 0; i < messages; ++i) end->send_bulk(0, static_cast<std::uint64_t>(++sent), header, payload);
      seen.wait("sent", sent);
    });
    const double plain = seconds_of([&] {
      for (int i = 0; i < messages; ++i) send_raw(raw, payload->bytes());
    });
    const double link_trip = seconds_of([&] {
      for (int i = 0; i < pings; ++i) {
        end->send_control(0, ping);
        seen.wait("pong", ++ponged);
      }
    });
    const double raw_trip = seconds_of([&] {
      for (int i = 0; i < pings; ++i) send_raw(raw, ping->bytes());
    });
    if (run == 0) continue;
    link_rate.push_back(bytes / link * 1e-9);
    raw_rate.push_back(bytes / plain * 1e-9);
    link_ping.push_back(link_trip / pings * 1e6);
    raw_ping.push_back(raw_trip / pings * 1e6);
  }
  const link_counters counters = end->counters(0);
  bench::print_machine();
  say("link goodput, bulk messages", "GB/s", link_rate, raw_rate, false);
  say("link round trip, 64 B control message", "us", link_ping, raw_ping, true);
  bench::figure framing;
  framing.name = "link framing";
  framing.unit = "% of payload";
  framing.value =
      100 * static_cast<double>(counters.bulk_bytes_out - counters.payload_bytes_out) / static_cast<double>(counters.payload_bytes_out);
  bench::print(framing);
  end->stop();
  ::close(to_other[1]);
  ::waitpid(other, nullptr, 0);
  return 0;
}
