#include "framework/emulator/tun_network.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace isthmus::emulator {

namespace {

constexpr std::uint32_t network = 10U << 24 | 77U << 16;
constexpr std::uint32_t coordinator_host = 0xfffe;
constexpr std::size_t packet_bytes_max = 65536;
constexpr int packets_at_once = 64;  // of one device, before another has its turn

std::uint32_t address_of(site_id site) { return network | (site == coordinator_id ? coordinator_host : site + 1); }

site_id site_at(std::uint32_t address) {
  const auto host = address & 0xffff;
  return host == coordinator_host ? coordinator_id : static_cast<site_id>(host - 1);
}

}  // namespace

tun_network::tun_network(std::uint64_t seed) : emulator_(seed), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

expected<std::unique_ptr<tun_network>> tun_network::make(const std::vector<site_id>& sites, std::uint64_t seed) {
  std::unique_ptr<tun_network> made(new tun_network(seed));
  for (const auto site : sites) {
    auto space = make_space(address_of(site));
    if (!space) return space.failure();
    made->ends_.emplace(site, std::move(*space));
  }
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the owner's threads
  made->thread_ = std::thread([network = made.get()] { network->relay(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return made;
}

tun_network::~tun_network() {
  ending_ = true;
  steer([](link_emulator&) {});
  if (thread_.joinable()) thread_.join();
}

std::string tun_network::host_of(site_id site) {
  const auto a = address_of(site);
  return fmt::format("{}.{}.{}.{}", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
}

template <class Change>
void tun_network::steer(Change change) {
  {
    const std::lock_guard lock(mutex_);
    change(emulator_);
  }
  ::eventfd_write(wake_.get(), 1);
}

packet_counters tun_network::counters() const {
  const std::lock_guard lock(mutex_);
  return emulator_.counters();
}

void tun_network::set_all_paths(const packet_conditions& conditions) {
  steer([&](link_emulator& e) { e.set_all_paths(conditions); });
}
void tun_network::cut(site_id from, site_id to) {
  steer([=](link_emulator& e) { e.cut(from, to); });
}
void tun_network::heal(site_id from, site_id to) {
  steer([=](link_emulator& e) { e.heal(from, to); });
}
void tun_network::hold(site_id from, site_id to) {
  steer([=](link_emulator& e) { e.hold(from, to); });
}
void tun_network::release(site_id from, site_id to) {
  steer([=](link_emulator& e) { e.release(from, to); });
}
void tun_network::worsen(site_id a, site_id b, const sim::path_fault& fault) {
  steer([&](link_emulator& e) { e.worsen(a, b, fault); });
}
void tun_network::mend(site_id a, site_id b, const sim::path_fault& fault) {
  steer([&](link_emulator& e) { e.mend(a, b, fault); });
}
void tun_network::reset(site_id a, site_id b) {
  steer([=](link_emulator& e) { e.reset(a, b); });
}
void tun_network::tear_next(site_id from) {
  steer([=](link_emulator& e) { e.tear_next(from); });
}

void tun_network::corrupt_next(site_id from, site_id to) {
  steer([=](link_emulator& e) { e.corrupt_next(from, to); });
}

void tun_network::read_all(site_id from, int tun, time_point now) {
  std::array<std::byte, packet_bytes_max> bytes;
  for (int i = 0; i < packets_at_once; ++i) {
    const ssize_t n = ::read(tun, bytes.data(), bytes.size());
    if (n <= 0) return;
    const auto got = std::span(bytes).first(static_cast<std::size_t>(n));
    const auto view = view_packet(got);
    if (!view) continue;  // IPv6 and the like: there is no such network here
    if (const auto to = site_at(view->to); ends_.contains(to)) emulator_.take(from, to, {got.begin(), got.end()}, now);
  }
}

void tun_network::wait(std::optional<time_point> due) {
  std::vector<pollfd> all{{wake_.get(), POLLIN, 0}};
  for (const auto& [site, end] : ends_) all.push_back({end.tun.get(), POLLIN, 0});
  timespec left{};
  if (due) {
    const auto ns = std::max<std::int64_t>(0, (*due - clock_.now()).count());
    left = {ns / 1'000'000'000, ns % 1'000'000'000};
  }
  ::ppoll(all.data(), all.size(), due ? &left : nullptr, nullptr);
  std::uint64_t ignored = 0;
  if (::read(wake_.get(), &ignored, sizeof ignored) < 0) {}  // it was not this
}

void tun_network::relay() {
  while (!ending_) {
    std::optional<time_point> due;
    {
      const std::lock_guard lock(mutex_);
      const auto now = clock_.now();
      for (const auto& [site, end] : ends_) read_all(site, end.tun.get(), now);
      emulator_.deliver(now, [&](site_id to, const packet& bytes) {
        // A full or closed device drops it, as a real one would.
        if (::write(ends_.at(to).tun.get(), bytes.data(), bytes.size()) < 0) {}
      });
      due = emulator_.next_due();
    }
    wait(due);
  }
}

}  // namespace isthmus::emulator
