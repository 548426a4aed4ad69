#include "framework/emulator/link_emulator.hpp"

#include "framework/core/error.hpp"

#include <algorithm>

namespace isthmus::emulator {

namespace {

constexpr double queue_seconds = 0.25, queue_bytes_min = 64 << 10;
constexpr std::uint64_t held_bytes_max = 64U << 20;
constexpr std::size_t flows_max = 4096;
constexpr std::size_t full_segment_bytes = 1000;

/// Adds up.
void join(packet_conditions& c, const sim::path_fault& f) {
  c.delay += f.delay;
  c.jitter += f.jitter;
  c.overtaken += f.reorder;
  c.duplicate = std::min(1.0, c.duplicate + f.duplicate);
  c.loss = std::min(0.99, c.loss + f.loss);
  c.bytes_per_second = std::min(c.bytes_per_second, f.bytes_per_second);
}

}  // namespace

void link_emulator::lift(std::map<way, int>& counts, way path) {
  const auto found = counts.find(path);
  ensure(found != counts.end(), "link_emulator: a path is freed of a fault that it has not");
  if (--found->second == 0) counts.erase(found);
}

void link_emulator::mend(site_id a, site_id b, const sim::path_fault& fault) {
  auto& faults = faults_[std::minmax(a, b)];
  const auto one = std::find(faults.begin(), faults.end(), fault);
  ensure(one != faults.end(), "link_emulator: a path is mended of a fault that it has not");
  faults.erase(one);
}

packet_conditions link_emulator::conditions(way path) const {
  const auto own = paths_.find(path);
  auto c = own == paths_.end() ? default_path_ : own->second;
  const auto faults = faults_.find(std::minmax(path.first, path.second));
  if (faults != faults_.end())
    for (const auto& f : faults->second) join(c, f);
  return c;
}

void link_emulator::follow(way path, const packet_view& view) {
  if (flows_.size() >= flows_max) flows_.erase(flows_.begin());
  auto& f = flows_[{path.first, path.second, view.from_port, view.to_port}];
  f.last = view;
  f.next = view.sequence + static_cast<std::uint32_t>(view.payload_bytes);
}

void link_emulator::take(site_id from, site_id to, packet bytes, time_point now) {
  ++counters_.taken;
  const way path{from, to};
  if (cuts_.contains(path)) {
    ++counters_.cut;
    return;
  }
  const auto view = view_packet(bytes);
  if (view && view->tcp) {
    follow(path, *view);
    const bool wrong = view->payload_bytes > 0 && spoiled_.erase(path) > 0;
    if (wrong || (view->payload_bytes >= full_segment_bytes && torn_.erase(from) > 0)) {
      tear(bytes, *view);
      ++counters_.torn;
    }
  }
  const auto c = conditions(path);
  if (c.loss > 0 && draws_.uniform() < c.loss) {
    ++counters_.lost;
    return;
  }
  const auto size = static_cast<double>(bytes.size());
  time_point& busy = busy_until_[path];
  busy = std::max(busy, now);
  const double queued = to_seconds(busy - now) * c.bytes_per_second;
  if (busy > now && queued + size > std::max(queue_bytes_min, queue_seconds * c.bytes_per_second)) {
    ++counters_.overflowed;
    return;
  }
  busy += from_seconds(size / c.bytes_per_second);
  if (c.corrupt > 0 && draws_.uniform() < c.corrupt) {
    bytes[draws_.below(bytes.size())] ^= static_cast<std::byte>(1U << draws_.below(8));
    ++counters_.corrupted;
  }
  if (c.duplicate > 0 && draws_.uniform() < c.duplicate) {
    send(path, bytes, busy + c.delay);
    ++counters_.duplicated;
  }
  if (c.reorder > 0 && draws_.uniform() < c.reorder) {
    ++counters_.reordered;
    return send(path, std::move(bytes), busy);
  }
  time_point arrives = busy + c.delay;
  if (c.jitter.count() > 0) arrives += duration(draws_.below(static_cast<std::uint64_t>(c.jitter.count()) + 1));
  if (c.overtaken.count() > 0)
    return send(path, std::move(bytes), arrives + duration(draws_.below(static_cast<std::uint64_t>(c.overtaken.count()) + 1)));
  time_point& last = last_arrival_[path];
  arrives = last = std::max(arrives, last);
  send(path, std::move(bytes), arrives);
}

std::optional<time_point> link_emulator::next_due() const {
  for (const auto& [path, held] : waiting_)
    if (!held.empty() && !holds_.contains(path)) return time_point{};
  if (queue_.empty()) return std::nullopt;
  return queue_.begin()->first.first;
}

void link_emulator::deliver(time_point now, const std::function<void(site_id to, const packet& bytes)>& arrived) {
  const auto hand_over = [&](way path, const packet& bytes) {
    if (cuts_.contains(path)) {
      ++counters_.cut;
      return;
    }
    ++counters_.delivered;
    arrived(path.second, bytes);
  };
  for (auto& [path, held] : waiting_) {
    if (held.empty() || holds_.contains(path)) continue;
    for (const auto& bytes : held) {
      waiting_bytes_ -= bytes.size();
      hand_over(path, bytes);
    }
    held.clear();
  }
  while (!queue_.empty() && queue_.begin()->first.first <= now) {
    const auto next = queue_.extract(queue_.begin());
    auto& [path, bytes] = next.mapped();
    if (!holds_.contains(path)) {
      hand_over(path, bytes);
    } else if (waiting_bytes_ + bytes.size() > held_bytes_max) {
      ++counters_.overflowed;
    } else {
      waiting_bytes_ += bytes.size();
      waiting_[path].push_back(std::move(bytes));
    }
  }
}

void link_emulator::reset(site_id a, site_id b) {
  const auto between = [&](const auto& entry) {
    const auto& [from, to, from_port, to_port] = entry.first;
    return (from == a && to == b) || (from == b && to == a);
  };
  for (const auto& entry : flows_) {
    if (!between(entry)) continue;
    const auto& [from, to, from_port, to_port] = entry.first;
    // The receiving end expects what it acknowledged last, or already what was on its way to it since.
    std::set<std::uint32_t> expected{entry.second.next};
    const auto back = flows_.find({to, from, to_port, from_port});
    if (back != flows_.end() && back->second.last.acknowledges) expected.insert(back->second.last.acknowledged);
    for (const auto sequence : expected) send({from, to}, make_reset(entry.second.last, sequence), time_point{});
    ++counters_.resets;
  }
  std::erase_if(flows_, between);
}

}  // namespace isthmus::emulator
