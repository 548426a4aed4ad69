// Links between two processes on loopback, one sealed and one not, against raw TCP sockets between the same two, alternately in the same
// run: goodput of bulk messages, CPU time of both processes, and round trip of 64-byte control messages.
// Usage: link_bench [payload MiB [messages]]
#include "bench/report.hpp"
#include "framework/transport/ucx_transport.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
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

/// Of a clock that counts a process's CPU time.
double seconds_on(clockid_t clock) {
  timespec now{};
  ensure(::clock_gettime(clock, &now) == 0, "clock_gettime");
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

using shared_keys = std::shared_ptr<const link_keys>;

/// Of both ends.
std::vector<shared_keys> make_keys() {
  std::vector<std::shared_ptr<link_keys>> made;
  for (int i = 0; i < 2; ++i) made.push_back(std::make_shared<link_keys>(link_keys{identity::generate(), {}}));
  for (const auto& one : made)
    for (site_id i = 0; i < 2; ++i) one->roster[i] = made[i]->own.key();
  return {made.begin(), made.end()};
}

std::unique_ptr<transport> make_end(site_id site, shared_keys keys, const isthmus::clock& time) {
  ucx_transport_options options;
  options.hello.run_id = "link_bench";
  options.hello.site = site;
  options.keys = std::move(keys);
  options.log = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  auto made = make_ucx_transport(options, time);
  if (!made) {
    std::fprintf(stderr, "%s\n", made.error().message.c_str());
    std::exit(4);
  }
  return std::move(*made);
}

/// Pongs control messages, takes bulk ones.
void start_answering(transport& end) {
  transport_events events;
  events.up = [](site_id, incarnation_number) {};
  events.down = [](site_id, const error&) {};
  events.sent = [](site_id, std::uint64_t, const expected<void>&) {};
  events.bulk = [](site_id, const shared_bytes&, const shared_bytes&) {};
  events.control = [&end](site_id from, shared_bytes bytes) { end.send_control(from, std::move(bytes)); };
  end.start(events);
  end.keep(1, "");
}

constexpr std::size_t address_bytes = 64;

/// The other process, with an end of either kind, until its input ends.
[[noreturn]] void other_process(const shared_keys& keys, int raw_listener, int input, int output) {
  std::thread([=] {
    const int socket = ::accept(raw_listener, nullptr, nullptr);
    const int on = 1;
    ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    serve_raw(socket);
  }).detach();
  const real_clock time;
  std::vector<std::unique_ptr<transport>> ends;
  for (const auto& with : {shared_keys(), keys}) {
    ends.push_back(make_end(0, with, time));
    start_answering(*ends.back());
    std::string address = ends.back()->address();
    address.resize(address_bytes, '\0');
    ensure(::write(output, address.data(), address.size()) == static_cast<ssize_t>(address_bytes), "pipe");
  }
  char ignored = 0;
  while (::read(input, &ignored, 1) > 0) {}
  for (const auto& end : ends) end->stop();
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

/// Our end of a link, sealed or not, and what was measured on it.
class measured_link {
public:
  measured_link(const shared_keys& keys, const std::string& other, const isthmus::clock& time) : end_(make_end(1, keys, time)) {
    transport_events events;
    events.up = [this](site_id, incarnation_number) { seen_.note("up"); };
    events.down = [](site_id, const error& why) { std::fprintf(stderr, "down: %s\n", why.message.c_str()); };
    events.sent = [this](site_id, std::uint64_t, const expected<void>& outcome) { seen_.note(outcome ? "sent" : "lost"); };
    events.bulk = [](site_id, const shared_bytes&, const shared_bytes&) {};
    events.control = [this](site_id, const shared_bytes&) { seen_.note("pong"); };
    end_->start(events);
    end_->keep(0, other);
    seen_.wait("up", 1);
  }
  ~measured_link() { end_->stop(); }
  measured_link(const measured_link&) = delete;
  measured_link& operator=(const measured_link&) = delete;

  /// CPU: of both processes together.
  void measure(const shared_bytes& payload, int messages, clockid_t other_cpu, bool keep) {
    const auto cpu = [&] { return seconds_on(CLOCK_PROCESS_CPUTIME_ID) + seconds_on(other_cpu); };
    const double bytes = static_cast<double>(payload->size()) * messages, cpu_before = cpu();
    const double bulk = seconds_of([&] {
      for (int i = 0; i < messages; ++i) end_->send_bulk(0, static_cast<std::uint64_t>(++sent_), header_, payload);
      seen_.wait("sent", sent_);
    });
    const double used = cpu() - cpu_before;
    const double trip = seconds_of([&] {
      for (int i = 0; i < pings; ++i) {
        end_->send_control(0, ping_);
        seen_.wait("pong", ++ponged_);
      }
    });
    if (!keep) return;
    rates.push_back(bytes / bulk * 1e-9);
    cpu_seconds.push_back(used / bytes * 1e9);
    trips.push_back(trip / pings * 1e6);
  }
  link_counters counters() const { return end_->counters(0); }

  std::vector<double> rates, cpu_seconds, trips;  // GB/s, s/GB, us

private:
  waiter seen_;
  std::unique_ptr<transport> end_;
  shared_bytes header_ = make_shared_bytes(std::vector<std::byte>(200)), ping_ = make_shared_bytes(std::vector<std::byte>(ping_bytes));
  int sent_ = 0, ponged_ = 0;
};

/// The same over a plain TCP connection.
class measured_raw {
public:
  explicit measured_raw(const sockaddr_in& at) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const int on = 1;
    ensure(::connect(socket_, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0, "connect");
    ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }

  void measure(const shared_bytes& payload, int messages, clockid_t other_cpu, bool keep) {
    const auto cpu = [&] { return seconds_on(CLOCK_PROCESS_CPUTIME_ID) + seconds_on(other_cpu); };
    const double bytes = static_cast<double>(payload->size()) * messages, cpu_before = cpu();
    const double bulk = seconds_of([&] {
      for (int i = 0; i < messages; ++i) send_raw(socket_, payload->bytes());
    });
    const double used = cpu() - cpu_before;
    const std::vector<std::byte> ping(ping_bytes);
    const double trip = seconds_of([&] {
      for (int i = 0; i < pings; ++i) send_raw(socket_, ping);
    });
    if (!keep) return;
    rates.push_back(bytes / bulk * 1e-9);
    cpu_seconds.push_back(used / bytes * 1e9);
    trips.push_back(trip / pings * 1e6);
  }

  ~measured_raw() { ::close(socket_); }
  measured_raw(const measured_raw&) = delete;
  measured_raw& operator=(const measured_raw&) = delete;

  std::vector<double> rates, cpu_seconds, trips;  // as of a link

private:
  int socket_;
};

void say_framing(const char* name, const link_counters& c) {
  bench::figure framing;
  framing.name = name;
  framing.unit = "% of payload";
  framing.value = 100 * static_cast<double>(c.bulk_bytes_out - c.payload_bytes_out) / static_cast<double>(c.payload_bytes_out);
  bench::print(framing);
}

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
  const auto keys = make_keys();
  int to_other[2], from_other[2];
  ensure(::pipe(to_other) == 0 && ::pipe(from_other) == 0, "pipe");
  const pid_t other = ::fork();
  if (other == 0) {
    ::close(to_other[1]);
    other_process(keys[0], raw_listener, to_other[0], from_other[1]);
  }
  clockid_t other_cpu{};
  ensure(::clock_getcpuclockid(other, &other_cpu) == 0, "clock_getcpuclockid");

  const real_clock time;
  char address[address_bytes + 1] = {};
  const auto other_address = [&] {
    ensure(::read(from_other[0], address, address_bytes) == static_cast<ssize_t>(address_bytes),
           "link_bench: the other process did not start");
    return std::string(address);
  };
  {
    measured_raw raw(raw_at);  // goes last: the other process ends with it
    measured_link plain({}, other_address(), time), sealed(keys[1], other_address(), time);
    auto payload = std::make_shared<buffer>(payload_bytes);
    std::memset(payload->data(), 7, payload->size());
    for (int run = 0; run <= runs; ++run) {  // the first warms up
      plain.measure(payload, messages, other_cpu, run > 0);
      sealed.measure(payload, messages, other_cpu, run > 0);
      raw.measure(payload, messages, other_cpu, run > 0);
    }
    bench::print_machine();
    say("link goodput, bulk messages", "GB/s", plain.rates, raw.rates, false);
    say("sealed link goodput, bulk messages", "GB/s", sealed.rates, raw.rates, false);
    say("link CPU of both ends", "s/GB", plain.cpu_seconds, raw.cpu_seconds, true);
    say("sealed link CPU of both ends", "s/GB", sealed.cpu_seconds, raw.cpu_seconds, true);
    say("link round trip, 64 B control message", "us", plain.trips, raw.trips, true);
    say("sealed link round trip, 64 B control message", "us", sealed.trips, raw.trips, true);
    say_framing("link framing", plain.counters());
    say_framing("sealed link framing", sealed.counters());
  }
  ::close(to_other[1]);
  ::waitpid(other, nullptr, 0);
  return 0;
}
