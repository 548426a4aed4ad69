#include "framework/transport/link_probe.hpp"

#include "framework/transport/address.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

namespace isthmus {

namespace {

constexpr std::size_t message_bytes = std::size_t{4} << 20;
constexpr int messages_under_way = 4;
constexpr auto up_within = std::chrono::seconds(15);

using steady = std::chrono::steady_clock;

struct one_try {
  door found = door::silent;
  double seconds = 0;
};

one_try try_door(const socket_address& to, duration patience) {
  const int socket = ::socket(to.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket < 0) return {};
  const auto begin = steady::now();
  one_try tried;
  int trouble = ::connect(socket, to.get(), to.size) == 0 ? 0 : errno;
  if (trouble == EINPROGRESS) {
    pollfd p{socket, POLLOUT, 0};
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(patience).count();
    socklen_t size = sizeof trouble;
    if (::poll(&p, 1, static_cast<int>(ms)) == 1)
      ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &trouble, &size);
    else
      trouble = ETIMEDOUT;
  }
  tried.seconds = std::chrono::duration<double>(steady::now() - begin).count();
  tried.found = trouble == 0 ? door::open : trouble == ECONNREFUSED || trouble == ECONNRESET ? door::refused : door::silent;
  ::close(socket);
  return tried;
}

/// One end of a link that measures itself.
class probing_end {
public:
  probing_end(const ucx_transport_options& like, site_id self, std::shared_ptr<const link_keys> keys, const std::string& listen) {
    options_ = like;
    options_.hello = {"link-probe", 1, {}, self, 1};
    options_.keys = std::move(keys);
    options_.listen = listen;
  }
  ~probing_end() {
    if (wire) wire->stop();
  }
  probing_end(const probing_end&) = delete;
  probing_end& operator=(const probing_end&) = delete;

  expected<void> open(const clock& time, bool sends) {
    auto made = make_ucx_transport(options_, time);
    if (!made) return made.failure();
    wire = std::move(*made);
    transport_events events;
    events.up = [this, sends](site_id, incarnation_number) {
      up = true;
      for (int i = 0; i < messages_under_way && sends; ++i) send();
    };
    events.down = [](site_id, const error&) {};
    events.control = [](site_id, const shared_bytes&) {};
    events.bulk = [](site_id, const shared_bytes&, const shared_bytes&) {};
    events.sent = [this](site_id, std::uint64_t, const expected<void>& outcome) {
      if (!outcome) return;
      ++sent;
      send();
    };
    wire->start(std::move(events));
    return {};
  }

  std::unique_ptr<transport> wire;
  std::atomic<bool> up = false;
  std::atomic<std::uint64_t> sent = 0;

private:
  void send() { wire->send_bulk(0, ++next_, header_, payload_); }

  ucx_transport_options options_;
  std::uint64_t next_ = 0;
  shared_bytes header_ = make_shared_bytes({}), payload_ = std::make_shared<buffer>(message_bytes);
};

bool comes(const std::function<bool()>& what) {
  const auto until = steady::now() + up_within;
  while (!what() && steady::now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return what();
}

}  // namespace

expected<door_probe> probe_door(const std::string& address, int tries, duration patience) {
  const auto to = parse_address(address);
  if (!to) return to.failure();
  if (const auto ok = check_allowed(*to, {true, false}); !ok) return ok.failure();
  if (to->port() == 0)
    return fail(errc::environment, "'" + address + "' has no port that could be called: 0 stands for one that is picked at launch");
  door_probe found;
  std::vector<double> answered;
  for (int i = 0; i < tries; ++i) {
    const auto tried = try_door(*to, patience);
    if (tried.found != door::silent) answered.push_back(tried.seconds);
    if (tried.found == door::open || found.found == door::silent) found.found = tried.found;
  }
  found.loss = 1 - static_cast<double>(answered.size()) / tries;
  if (answered.empty()) return found;
  std::sort(answered.begin(), answered.end());
  found.round_trip_seconds = answered[answered.size() / 2];
  return found;
}

expected<link_measure> measure_link(const ucx_transport_options& like, const std::string& from, const std::string& to, duration how_long,
                                    const clock& time) {
  std::vector<std::shared_ptr<link_keys>> keys;
  for (int i = 0; i < 2; ++i) keys.push_back(std::make_shared<link_keys>(link_keys{identity::generate(), {}}));
  for (const auto& one : keys)
    for (site_id i = 0; i < 2; ++i) one->roster[i] = keys[i]->own.key();
  probing_end called(like, 0, keys[0], to), caller(like, 1, keys[1], from);
  if (const auto ok = called.open(time, false); !ok) return ok.failure();
  if (const auto ok = caller.open(time, true); !ok) return ok.failure();
  called.wire->keep(1, caller.wire->address());
  caller.wire->keep(0, called.wire->address());
  if (!comes([&] { return caller.up && called.up; }))
    return fail(errc::timed_out, "a link from " + from + " to " + to + " does not come up");
  if (!comes([&] { return caller.sent >= messages_under_way; })) return fail(errc::timed_out, "nothing moves from " + from + " to " + to);
  const std::uint64_t before = caller.sent;
  const auto begin = steady::now();
  std::this_thread::sleep_for(how_long);
  const double seconds = std::chrono::duration<double>(steady::now() - begin).count();
  return link_measure{static_cast<double>((caller.sent - before) * message_bytes) / seconds, caller.wire->counters(0).round_trip_seconds};
}

}  // namespace isthmus
