#include "framework/emulator/steered_transport.hpp"

#include <algorithm>
#include <utility>

namespace isthmus::emulator {

namespace {
constexpr duration retry = std::chrono::milliseconds(200);  // what a lost frame costs: the least that TCP waits before it sends again
}

steered_transport::steered_transport(std::unique_ptr<transport> wire, std::uint64_t seed)
    : wire_(std::move(wire)), draws_(seed, 0, 0, draw::network), thread_([this] { run(); }) {}

steered_transport::~steered_transport() {
  stop();
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void steered_transport::set(site_id peer, const link_state& state) {
  {
    const std::lock_guard lock(mutex_);
    links_[peer].state = state;
  }
  changed_.notify_all();
}

void steered_transport::tear_next() {
  const std::lock_guard lock(mutex_);
  torn_ = true;
}

void steered_transport::start(transport_events events) {
  events_ = events;
  events.up = [this](site_id peer, incarnation_number incarnation) { went_up(peer, incarnation); };
  events.down = [this](site_id peer, error reason) { went_down(peer, std::move(reason)); };
  wire_->start(std::move(events));
}

void steered_transport::went_up(site_id peer, incarnation_number incarnation) {
  {
    const std::lock_guard lock(mutex_);
    auto& l = links_[peer];
    l.up = !l.state.silent();
    if (!l.up) return wire_->close(peer, {errc::timed_out, "the link is cut"});
  }
  events_.up(peer, incarnation);
}

void steered_transport::went_down(site_id peer, error reason) {
  std::deque<waiting_frame> lost;
  {
    const std::lock_guard lock(mutex_);
    auto& l = links_[peer];
    if (!std::exchange(l.up, false) && reason.code != errc::environment) return;  // nobody was told that it was up
    lost = std::exchange(l.lanes[1], {});
    l.lanes[0].clear();
  }
  for (const auto& w : lost) events_.sent(peer, w.what.id, fail(reason.code, reason.message));
  events_.down(peer, std::move(reason));
}

void steered_transport::send_control(site_id peer, shared_bytes bytes) { send(peer, {false, 0, nullptr, std::move(bytes)}); }

void steered_transport::send_bulk(site_id peer, std::uint64_t id, shared_bytes header, shared_bytes payload) {
  send(peer, {true, id, std::move(header), std::move(payload)});
}

void steered_transport::hand_over(site_id peer, const frame& f) {
  if (f.bulk)
    wire_->send_bulk(peer, f.id, f.header, f.payload);
  else
    wire_->send_control(peer, f.payload);
}

void steered_transport::send(site_id peer, frame f) {
  {
    const std::lock_guard lock(mutex_);
    if (f.bulk && f.payload && f.payload->size() > 0 && std::exchange(torn_, false))
      f.payload = make_shared_bytes(f.payload->bytes().first(f.payload->size() - 1));
    auto& l = links_[peer];
    auto& lane = l.lanes[f.bulk ? 1 : 0];
    const auto& worse = l.state.worse;
    const bool clear = l.state == link_state{} && lane.empty();
    if (clear || !l.up) return hand_over(peer, f);
    const auto now = clock_.now();
    l.busy = std::max(l.busy, now) + from_seconds(static_cast<double>(f.size()) / worse.bytes_per_second);
    auto due = l.busy + worse.delay;
    if (worse.jitter.count() > 0) due += duration(draws_.below(static_cast<std::uint64_t>(worse.jitter.count()) + 1));
    while (worse.loss > 0 && draws_.uniform() < worse.loss) due += retry;
    auto& last = l.last[f.bulk ? 1 : 0];
    last = due = std::max(due, last);
    lane.push_back({due, std::move(f)});
  }
  changed_.notify_all();
}

/// Sends what is due now; gives when something is due next.
std::optional<time_point> steered_transport::send_due(std::unique_lock<std::mutex>&) {
  std::optional<time_point> next;
  const auto now = clock_.now();
  for (auto& [peer, l] : links_) {
    if (l.state.cut_out || l.state.held_out) continue;  // it leaves, in its order, when that is over
    for (auto& lane : l.lanes) {
      for (; !lane.empty() && lane.front().due <= now; lane.pop_front()) hand_over(peer, lane.front().what);
      if (!lane.empty()) next = std::min(next.value_or(lane.front().due), lane.front().due);
    }
  }
  return next;
}

void steered_transport::run() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    const auto next = send_due(lock);
    if (next)
      changed_.wait_until(lock, *next);
    else
      changed_.wait(lock);
  }
}

void steered_transport::stop() { wire_->stop(); }

}  // namespace isthmus::emulator
