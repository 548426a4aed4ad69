// Sealed bulk messages between two processes in network namespaces of their own, joined by a virtual Ethernet of a fixed rate (a token
// bucket, which counts Ethernet, IP and TCP headers): goodput as a part of the rate, and CPU seconds a GB of both processes, for several
// numbers of endpoints and ways of congestion control, alone and while an outsider without a key attacks the receiver from a third
// namespace. Needs root. The namespaces go with their processes, however these end.
// Usage: shaped_link_bench [Mbit/s [seconds]]
#include "bench/report.hpp"
#include "bench/shaped_wire.hpp"
#include "framework/core/rng.hpp"
#include "framework/transport/ucx_transport.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

using namespace isthmus;

namespace {

constexpr int link_net = 77, outsider_net = 78;
constexpr const char *sender_address = "10.77.0.1:7000", *receiver_address = "10.77.0.2:7000";
constexpr double mtu = 1500, ethernet_bytes = 14, ip_and_tcp_bytes = 20 + 32;  // TCP with time stamps

using shared_keys = std::shared_ptr<const link_keys>;

/// Of receiver (site 0) and sender (site 1).
std::vector<shared_keys> make_keys() {
  std::vector<std::shared_ptr<link_keys>> made;
  for (int i = 0; i < 2; ++i) made.push_back(std::make_shared<link_keys>(link_keys{identity::generate(), {}}));
  for (const auto& one : made)
    for (site_id i = 0; i < 2; ++i) one->roster[i] = made[i]->own.key();
  return {made.begin(), made.end()};
}

std::unique_ptr<transport> make_end(site_id site, const shared_keys& keys, int endpoints, const std::string& listen,
                                    const isthmus::clock& time) {
  ucx_transport_options options;
  options.hello.run_id = "shaped_link_bench";
  options.hello.site = site;
  options.keys = keys;
  options.endpoints = endpoints;
  options.listen = listen;
  options.log = [site](const std::string& line) { std::fprintf(stderr, "site %u: %s\n", site, line.c_str()); };
  auto made = make_ucx_transport(options, time);
  if (!made) {
    std::fprintf(stderr, "%s\n", made.error().message.c_str());
    std::exit(4);
  }
  return std::move(*made);
}

void receive(const shared_keys& keys, int endpoints) {
  const real_clock time;
  const auto end = make_end(0, keys, endpoints, receiver_address, time);
  transport_events events;
  events.up = [](site_id, incarnation_number) {};
  events.down = [](site_id, const error&) {};
  events.sent = [](site_id, std::uint64_t, const expected<void>&) {};
  events.bulk = [](site_id, const shared_bytes&, const shared_bytes&) {};
  events.control = [](site_id, const shared_bytes&) {};
  end->start(events);
  end->keep(1, "");
  for (;;) ::pause();
}

/// Calls again and again, at most so many connections open, saying nothing, noise or half a handshake. To ports of 1024 and up now and then.
void attack() {
  std::deque<int> open;
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(0x0a4d0002);  // the receiver's
  const std::string front("\x49\0\0\0\x0aISH1", 9);
  for (std::uint64_t i = 0;; ++i) {
    if (open.size() >= 1000) {
      ::close(open.front());
      open.pop_front();
    }
    rng draws(1, 0, i, draw::network);
    to.sin_port = htons(i % 8 == 7 ? static_cast<std::uint16_t>(1024 + draws.below(64'000)) : 7000);
    const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const linger hard{1, 0};
    ::setsockopt(s, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    [[maybe_unused]] const int begun = ::connect(s, reinterpret_cast<sockaddr*>(&to), sizeof to);
    open.push_back(s);
    if (open.size() > 20) {  // one that is connected by now
      const std::string words = i % 3 == 0 ? front : i % 3 == 1 ? std::string(1 + draws.below(2000), 'x') : "";
      [[maybe_unused]] const auto n = ::send(open[open.size() - 20], words.data(), words.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (i % 50 == 49) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

double seconds_on(clockid_t clock) {
  timespec now{};
  ensure(::clock_gettime(clock, &now) == 0, "clock_gettime");
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct measured {
  double bytes_per_second = 0, cpu_seconds_per_gb = 0;
  std::uint64_t reconnects = 0;
};

/// The sending end: keeps messages under way all the time and counts whole ones between two acknowledgements.
class sender {
public:
  sender(const shared_keys& keys, int endpoints) : end_(make_end(1, keys, endpoints, sender_address, time_)) {
    transport_events events;
    events.up = [this](site_id, incarnation_number) {
      note([&] { ++ups_; });
      for (int i = 0; i < 16; ++i) send();
    };
    events.down = [](site_id, const error& why) { std::fprintf(stderr, "down: %s\n", why.message.c_str()); };
    events.sent = [this](site_id, std::uint64_t, const expected<void>& outcome) {
      note([&] { sent_ += outcome ? 1 : 0; });
      if (outcome) send();
    };
    events.bulk = [](site_id, const shared_bytes&, const shared_bytes&) {};
    events.control = [](site_id, const shared_bytes&) {};
    end_->start(events);
    end_->keep(0, receiver_address);
  }
  ~sender() { end_->stop(); }
  sender(const sender&) = delete;
  sender& operator=(const sender&) = delete;

  measured measure(clockid_t other_cpu, double seconds) {
    wait_for(100);  // until it runs evenly
    const auto cpu = [&] { return seconds_on(CLOCK_PROCESS_CPUTIME_ID) + seconds_on(other_cpu); };
    const int first = wait_for(sent() + 1);
    const double begin = bench::wall_seconds(), cpu_before = cpu();
    int last = first;
    while (bench::wall_seconds() - begin < seconds) last = wait_for(last + 1);
    const double bytes = static_cast<double>(payload_->size()) * (last - first);
    return {bytes / (bench::wall_seconds() - begin), (cpu() - cpu_before) / bytes * 1e9, end_->counters(0).reconnects};
  }

private:
  template <class Change>
  void note(Change change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  int sent() {
    const std::lock_guard lock(mutex_);
    return sent_;
  }
  int wait_for(int count) {
    std::unique_lock lock(mutex_);
    ensure(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return sent_ >= count; }),
           "shaped_link_bench: nothing moved for a minute");
    return sent_;
  }
  void send() { end_->send_bulk(0, ++next_, header_, payload_); }

  real_clock time_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int sent_ = 0, ups_ = 0;
  std::atomic<std::uint64_t> next_ = 0;
  shared_bytes header_ = make_shared_bytes(std::vector<std::byte>(200)), payload_ = std::make_shared<buffer>(std::size_t{2} << 20);
  std::unique_ptr<transport> end_;
};

struct setting {
  int endpoints;
  const char* congestion;
  bool attacked;
};

bool has_congestion_control(const std::string& name) {
  char text[256] = {};
  const int file = ::open("/proc/sys/net/ipv4/tcp_available_congestion_control", O_RDONLY);
  [[maybe_unused]] const auto n = ::read(file, text, sizeof text - 1);
  ::close(file);
  return std::string(text).find(name) != std::string::npos;
}

/// In a process of its own, so that each has its own namespaces and UCX.
int measure(const setting& s, double rate, double seconds) {
  const auto stop = [](const error& why) {
    std::fprintf(stderr, "shaped_link_bench: %s\n", why.message.c_str());
    return 4;
  };
  const auto keys = make_keys();
  if (const auto ok = bench::leave_the_network(); !ok) return stop(ok.error());
  auto receiver = bench::guest::start([&] { receive(keys[0], s.endpoints); });
  if (!receiver) return stop(receiver.error());
  if (const auto ok = bench::lay_wire(*receiver, link_net, rate); !ok) return stop(ok.error());
  for (const pid_t where : {pid_t{0}, receiver->id()}) {
    const auto ok = bench::run_program(
        fmt::format("ip route replace 10.{}.0.0/24 dev wire{}{} congctl {}", link_net, link_net, where == 0 ? 'a' : 'b', s.congestion),
        where);
    if (!ok) return stop(ok.error());
  }
  auto outsider = bench::guest::start(attack);
  if (!outsider) return stop(outsider.error());
  // The outsider's own wire ends at the receiver: it takes nothing of the link's rate.
  const std::string far = fmt::format("ip link add far type veth peer name near netns {}", outsider->id());
  for (const auto& [line, where] : {std::pair(far, receiver->id()),
                                    {fmt::format("ip addr add 10.{}.0.1/24 dev far", outsider_net), receiver->id()},
                                    {std::string("ip link set far up"), receiver->id()},
                                    {fmt::format("ip addr add 10.{}.0.66/24 dev near", outsider_net), outsider->id()},
                                    {std::string("ip link set near up"), outsider->id()},
                                    {fmt::format("ip route add 10.{}.0.0/24 via 10.{}.0.1", link_net, outsider_net), outsider->id()}})
    if (const auto ok = bench::run_program(line, where); !ok) return stop(ok.error());
  receiver->go();
  if (s.attacked) outsider->go();
  clockid_t other_cpu{};
  ensure(::clock_getcpuclockid(receiver->id(), &other_cpu) == 0, "clock_getcpuclockid");
  const measured m = sender(keys[1], s.endpoints).measure(other_cpu, seconds);
  const std::string name = fmt::format("sealed link at {:.0f} Mbit/s, {} endpoint{}, {}{}", rate * 1e-6, s.endpoints,
                                       s.endpoints > 1 ? "s" : "", s.congestion, s.attacked ? ", under attack" : "");
  bench::figure goodput;
  goodput.name = name + ", goodput";
  goodput.unit = "Mbit/s";
  goodput.value = m.bytes_per_second * 8e-6;
  goodput.limit = "rate of the wire";
  goodput.share = m.bytes_per_second * 8 / rate;
  bench::print(goodput);
  bench::figure cpu;
  cpu.name = name + ", CPU of both ends";
  cpu.unit = "s/GB";
  cpu.value = m.cpu_seconds_per_gb;
  bench::print(cpu);
  if (m.reconnects > 0) bench::print_note(fmt::format("the link broke {} times", m.reconnects));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  prepare_environment(argc, argv);
  const double rate = (argc > 1 ? std::atof(argv[1]) : 1000) * 1e6, seconds = argc > 2 ? std::atof(argv[2]) : 10;
  bench::print_machine();
  if (::geteuid() != 0) {
    bench::print_note("nothing was measured: this needs root, for network namespaces and a wire of a fixed rate between them");
    return 0;
  }
  bench::print_note(
      fmt::format("of the rate, Ethernet, IP and TCP headers take {:.2f} % where each packet of {:.0f} bytes is full; acknowledgements of "
                  "the other direction are not counted",
                  100 * (1 - (mtu - ip_and_tcp_bytes) / (mtu + ethernet_bytes)), mtu));
  for (const setting s : {setting{1, "cubic", false},
                          {2, "cubic", false},
                          {4, "cubic", false},
                          {1, "bbr", false},
                          {4, "bbr", false},
                          {1, "cubic", true},
                          {4, "bbr", true}}) {
    if (!has_congestion_control(s.congestion)) continue;
    const pid_t one = ::fork();
    if (one == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const int code = measure(s, rate, seconds);
      std::fflush(nullptr);
      ::_exit(code);
    }
    int status = 0;
    ::waitpid(one, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return 4;
  }
  return 0;
}
