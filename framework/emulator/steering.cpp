#include "framework/emulator/steering.hpp"

#include "framework/core/error.hpp"
#include "framework/emulator/steered_transport.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <utility>

namespace isthmus::emulator {

namespace {
constexpr std::size_t line_bytes_max = 1024;
}

std::string steering_command::text() const {
  switch (what) {
    case kind::slow: return fmt::format("slow {}\n", factor);
    case kind::reset: return fmt::format("reset {}\n", peer);
    case kind::tear: return "tear\n";
    case kind::link: break;
  }
  const auto& w = link.worse;
  return fmt::format("link {} {:d} {:d} {:d} {:d} {} {} {} {}\n", peer, link.cut_out, link.cut_in, link.held_out, link.held_in,
                     w.delay.count(), w.jitter.count(), w.loss, w.bytes_per_second);
}

expected<steering_command> parse_command(std::string_view line) {
  std::istringstream words{std::string(line)};
  std::string verb, more;
  steering_command c;
  words >> verb;
  bool good = true;
  if (verb == "slow") {
    words >> c.factor;
    good = c.factor > 0;
  } else if (verb == "reset") {
    c.what = steering_command::kind::reset;
    words >> c.peer;
  } else if (verb == "tear") {
    c.what = steering_command::kind::tear;
  } else if (verb == "link") {
    c.what = steering_command::kind::link;
    auto& w = c.link.worse;
    std::int64_t delay = 0, jitter = 0;
    words >> c.peer >> c.link.cut_out >> c.link.cut_in >> c.link.held_out >> c.link.held_in >> delay >> jitter >> w.loss >>
        w.bytes_per_second;
    w.delay = duration(delay);
    w.jitter = duration(jitter);
    good = delay >= 0 && jitter >= 0 && w.loss >= 0 && w.loss < 1 && w.bytes_per_second > 0;
  } else {
    good = false;
  }
  if (!good || words.fail() || words >> more) return fail(errc::malformed, fmt::format("no steering command: \"{}\"", line.substr(0, 80)));
  return c;
}

steering::steering(int fd, std::function<void()> deserted)
    : fd_(fd), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), deserted_(std::move(deserted)) {
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the process's first thread
  thread_ = std::thread([this] { read(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

steering::~steering() {
  ::eventfd_write(wake_.get(), 1);
  thread_.join();
}

std::unique_ptr<transport> steering::over(std::unique_ptr<transport> wire, std::uint64_t seed) {
  const std::lock_guard lock(mutex_);
  auto steered = std::make_unique<steered_transport>(std::move(wire), seed);
  wire_ = steered.get();
  for (const auto& [peer, state] : links_) wire_->set(peer, state);
  return steered;
}

void steering::read() {
  std::string waiting;
  std::array<char, line_bytes_max> part;
  for (;;) {
    pollfd all[] = {{fd_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (::poll(all, 2, -1) < 0) continue;
    if (all[1].revents != 0) return;
    const ssize_t n = ::read(fd_.get(), part.data(), part.size());
    if (n <= 0) {
      if (deserted_) deserted_();
      return;
    }
    waiting.append(part.data(), static_cast<std::size_t>(n));
    for (std::size_t end; (end = waiting.find('\n')) != std::string::npos; waiting.erase(0, end + 1))
      if (const auto command = parse_command(std::string_view(waiting).substr(0, end))) heed(*command);
    if (waiting.size() > line_bytes_max) return;  // our launcher writes no such thing
  }
}

void steering::heed(const steering_command& c) {
  const std::lock_guard lock(mutex_);
  switch (c.what) {
    case steering_command::kind::slow: slowness_ = c.factor; return;
    case steering_command::kind::link:
      links_[c.peer] = c.link;
      if (wire_ != nullptr) wire_->set(c.peer, c.link);
      return;
    case steering_command::kind::reset:
      if (wire_ != nullptr) wire_->reset(c.peer);
      return;
    case steering_command::kind::tear:
      if (wire_ != nullptr) wire_->tear_next();
      return;
  }
}

steering_command process_links::state_of(site_id at, site_id peer) const {
  steering_command c;
  c.what = steering_command::kind::link;
  c.peer = peer;
  if (const auto out = ways_.find({at, peer}); out != ways_.end()) {
    c.link.cut_out = out->second.cuts > 0;
    c.link.held_out = out->second.holds > 0;
    for (const auto& f : out->second.faults) {
      c.link.worse.delay += f.delay;
      c.link.worse.jitter += f.jitter;
      c.link.worse.loss = std::min(0.9, c.link.worse.loss + f.loss);
      c.link.worse.bytes_per_second = std::min(c.link.worse.bytes_per_second, f.bytes_per_second);
    }
  }
  if (const auto in = ways_.find({peer, at}); in != ways_.end()) {
    c.link.cut_in = in->second.cuts > 0;
    c.link.held_in = in->second.holds > 0;
  }
  return c;
}

void process_links::change(site_id from, site_id to, const std::function<void(way_state&)>& how) {
  how(ways_[{from, to}]);
  tell_(from, state_of(from, to).text());
  tell_(to, state_of(to, from).text());
}

std::vector<std::string> process_links::standing(site_id site) const {
  std::vector<std::string> lines;
  for (const auto& [way, state] : ways_)
    if (way.first == site || way.second == site) lines.push_back(state_of(site, way.first == site ? way.second : way.first).text());
  return lines;
}

void process_links::worsen(site_id a, site_id b, const sim::path_fault& fault) {
  for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) change(from, to, [&](way_state& w) { w.faults.push_back(fault); });
}

void process_links::mend(site_id a, site_id b, const sim::path_fault& fault) {
  for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)})
    change(from, to, [&](way_state& w) {
      const auto one = std::find(w.faults.begin(), w.faults.end(), fault);
      ensure(one != w.faults.end(), "process_links: a path is mended of a fault that it has not");
      w.faults.erase(one);
    });
}

void process_links::reset(site_id a, site_id b) {
  steering_command c;
  c.what = steering_command::kind::reset;
  c.peer = b;
  tell_(a, c.text());
}

void process_links::tear_next(site_id from) {
  steering_command c;
  c.what = steering_command::kind::tear;
  tell_(from, c.text());
}

}  // namespace isthmus::emulator
