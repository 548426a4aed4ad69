#include "framework/sim/network.hpp"

#include <algorithm>

namespace isthmus::sim {

namespace {
constexpr duration back_off_min = std::chrono::milliseconds(100);
constexpr duration back_off_max = std::chrono::seconds(5);
constexpr std::uint64_t frame_overhead_bytes = 64;

/// Why `b` will not have `a`, of which it has seen that incarnation; code ok when it will.
error mismatch(const link_hello& a, const link_hello& b, incarnation_number seen) {
  const auto refused = [](errc code, const std::string& theirs, const std::string& ours) {
    return error{code, "refused: " + theirs + " meets " + ours};
  };
  if (a.run_id != b.run_id) return refused(errc::wrong_run, "run '" + a.run_id + "'", "run '" + b.run_id + "'");
  if (a.version != b.version)
    return refused(errc::wrong_version, "version " + std::to_string(a.version), "version " + std::to_string(b.version));
  if (a.recipe_hash != b.recipe_hash) return refused(errc::wrong_recipe, "recipe " + a.recipe_hash.hex(), "recipe " + b.recipe_hash.hex());
  if (a.incarnation < seen)
    return refused(errc::stale_incarnation, "incarnation " + std::to_string(a.incarnation),
                   "what incarnation " + std::to_string(seen) + " has replaced");
  return {};
}
}  // namespace

class simulated_transport final : public transport {
public:
  simulated_transport(network& net, link_hello hello) : net_(net), hello_(std::move(hello)) {}
  ~simulated_transport() override { stop(); }

  void start(transport_events events) override {
    events_ = std::move(events);
    net_.attach(hello_.site, this);
    started_ = true;
  }
  void keep(site_id peer, const std::string&) override {
    kept_.insert(peer);
    if (hello_.site < peer && peer != coordinator_id) return;  // the larger id dials; the coordinator is dialled by all
    if (hello_.site == coordinator_id) return;
    net_.dial(hello_.site, peer, back_off_min);
  }
  void forget(site_id peer) override {
    kept_.erase(peer);
    close(peer, {errc::disconnected, "forgotten"});
  }
  void close(site_id peer, error reason) override {
    if (net_.connected(hello_.site, peer)) net_.disconnect(hello_.site, peer, std::move(reason));
  }
  void send_control(site_id peer, shared_bytes bytes) override {
    if (!net_.connected(hello_.site, peer)) return;
    auto& count = counters_[peer];
    count.control_bytes_out += bytes->size();
    net_.carry(hello_.site, peer, network::lane::control, bytes->size(), [from = hello_.site, bytes](simulated_transport& to) {
      to.counters_[from].control_bytes_in += bytes->size();
      to.events_.control(from, bytes);
    });
  }
  void send_bulk(site_id peer, std::uint64_t id, shared_bytes header, shared_bytes payload) override {
    const site_id me = hello_.site;
    if (!net_.connected(me, peer)) {
      net_.world_.after({}, [this, peer, id, alive = std::weak_ptr<int>(alive_)] {
        if (!alive.expired()) events_.sent(peer, id, fail(errc::disconnected, "no link"));
      });
      return;
    }
    if (const auto& rewrite = net_.rewriters_[me]) std::tie(header, payload) = rewrite(header, payload);
    const std::size_t size = payload ? payload->size() : 0;
    if (net_.torn_.erase(me) > 0 && size > 0) payload = make_shared_bytes(payload->bytes().first(size - 1));
    auto& count = counters_[peer];
    count.bulk_bytes_out += header->size() + size;
    count.payload_bytes_out += size;
    pending_.insert({peer, id});
    net_.carry(me, peer, network::lane::bulk, header->size() + size, [me, peer, id, header, payload, &net = net_](simulated_transport& to) {
      const std::size_t got = payload ? payload->size() : 0;
      to.counters_[me].bulk_bytes_in += header->size() + got;
      to.counters_[me].payload_bytes_in += got;
      to.events_.bulk(me, header, payload ? payload : std::make_shared<const buffer>(0));
      net.carry(peer, me, network::lane::control, 0, [peer, id](simulated_transport& back) { back.settle(peer, id, {}); });
    });
  }
  link_counters counters(site_id peer) const override {
    const auto found = counters_.find(peer);
    return found == counters_.end() ? link_counters{} : found->second;
  }
  std::string address() const override { return "sim:" + std::to_string(hello_.site); }
  void stop() override {
    if (!started_) return;
    started_ = false;
    alive_.reset();
    net_.detach(hello_.site, this);
  }

private:
  friend class network;
  void settle(site_id peer, std::uint64_t id, expected<void> outcome) {
    if (pending_.erase({peer, id}) > 0) events_.sent(peer, id, std::move(outcome));
  }
  void went_down(site_id peer, error reason) {
    std::vector<std::uint64_t> lost;
    for (const auto& [to, id] : pending_)
      if (to == peer) lost.push_back(id);
    for (const std::uint64_t id : lost) settle(peer, id, fail(reason.code, reason.message));
    events_.down(peer, std::move(reason));
  }

  network& net_;
  link_hello hello_;
  transport_events events_;
  bool started_ = false;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
  std::set<site_id> kept_;
  std::set<std::pair<site_id, std::uint64_t>> pending_;
  std::map<site_id, link_counters> counters_;
};

std::unique_ptr<transport> network::make_transport(const link_hello& hello) { return std::make_unique<simulated_transport>(*this, hello); }

path_conditions network::path(site_id from, site_id to) const {
  const auto found = paths_.find({from, to});
  path_conditions p = found == paths_.end() ? default_path_ : found->second;
  const auto faults = faults_.find(std::minmax(from, to));
  if (faults == faults_.end()) return p;
  for (const path_fault& f : faults->second) {
    p.delay += f.delay;
    p.jitter += f.jitter;
    p.reorder += f.reorder;
    p.loss = std::min(0.9, p.loss + f.loss);
    p.duplicate = std::min(1.0, p.duplicate + f.duplicate);
    p.bytes_per_second = std::min(p.bytes_per_second, f.bytes_per_second);
  }
  return p;
}

void network::mend(site_id a, site_id b, const path_fault& fault) {
  auto& faults = faults_[std::minmax(a, b)];
  const auto one = std::find(faults.begin(), faults.end(), fault);
  ensure(one != faults.end(), "network: a path is mended of a fault that it has not");
  faults.erase(one);
}

std::uint64_t network::connection(site_id a, site_id b) const {
  const auto found = connections_.find(std::minmax(a, b));
  return found == connections_.end() ? 0 : found->second;
}

void network::cut(site_id from, site_id to) {
  outage& o = outages_[{from, to}];
  if (o.cuts++ == 0) o.since = world_.now();
}

void network::heal(site_id from, site_id to) {
  const auto found = outages_.find({from, to});
  if (found == outages_.end() || found->second.cuts == 0 || --found->second.cuts > 0) return;
  outage& o = found->second;
  o.stalled = connection(from, to);
  const auto stall = duration(draws_.below(static_cast<std::uint64_t>((world_.now() - o.since).count()) + 1));
  world_.after(stall, [this, from, to, serial = o.stalled] {
    outage& now = outages_[{from, to}];
    if (now.stalled != serial) return;
    now.stalled = 0;
    deliver_waiting(from, to);
  });
}

void network::heal_all() {
  for (auto& [pair, o] : outages_) {
    o.cuts = std::min(o.cuts, 1);
    heal(pair.first, pair.second);
  }
}

bool network::is_cut(site_id from, site_id to) const {
  const auto found = outages_.find({from, to});
  return found != outages_.end() && found->second.cuts > 0;
}

bool network::waits(site_id from, site_id to, std::uint64_t serial) const {
  const auto found = outages_.find({from, to});
  return held(from, to) || (found != outages_.end() && (found->second.cuts > 0 || found->second.stalled == serial));
}

void network::deliver_waiting(site_id from, site_id to) {
  for (auto& arrive : std::exchange(waiting_[{from, to}], {})) arrive();
}

void network::detach(site_id site, simulated_transport* t) {
  const auto found = ends_.find(site);
  if (found == ends_.end() || found->second != t) return;
  ends_.erase(found);
  std::vector<site_id> peers;
  for (const auto& [pair, serial] : connections_)
    if (pair.first == site || pair.second == site) peers.push_back(pair.first == site ? pair.second : pair.first);
  for (const site_id peer : peers) disconnect(site, peer, {errc::disconnected, "the peer's process ended"});
}

void network::dial(site_id from, site_id to, duration back_off) {
  const auto caller = ends_.find(from);
  if (caller == ends_.end() || !caller->second->kept_.contains(to) || connected(from, to)) return;
  const auto again = [this, from, to, next = std::min(back_off * 2, back_off_max)] { dial(from, to, next); };
  const auto callee = ends_.find(to);
  const bool silent = is_cut(from, to) || is_cut(to, from) || held(from, to) || held(to, from);
  const bool reachable = callee != ends_.end() && !silent;
  if (!reachable || (to != coordinator_id && !callee->second->kept_.contains(from))) {
    world_.after(back_off + duration(draws_.below(static_cast<std::uint64_t>(back_off.count()) / 2 + 1)), again);
    return;
  }
  const link_hello &a = caller->second->hello_, &b = callee->second->hello_;
  incarnation_number& seen = seen_[from];
  if (const error why = mismatch(a, b, seen); why.code != errc::ok) {
    caller->second->events_.refused(to, why);
    world_.after(back_off_max, again);
    return;
  }
  seen = a.incarnation;
  const std::uint64_t serial = ++serial_;
  connections_[std::minmax(from, to)] = serial;
  const auto announce = [this, serial](site_id at, site_id peer) {
    if (connection(at, peer) != serial) return;
    const auto here = ends_.find(at), there = ends_.find(peer);
    if (here == ends_.end() || there == ends_.end()) return;
    ++here->second->counters_[peer].reconnects;
    here->second->events_.up(peer, there->second->hello_.incarnation);
  };
  const duration one_way = path(from, to).delay, back = path(to, from).delay;
  world_.after(one_way, [=] { announce(to, from); });
  world_.after(one_way + back, [=] { announce(from, to); });
}

void network::carry(site_id from, site_id to, lane in, std::uint64_t bytes, std::function<void(simulated_transport&)> deliver) {
  const std::uint64_t serial = connection(from, to);
  if (serial == 0) return;
  const path_conditions p = path(from, to);
  time_point& busy = busy_until_[{from, to}];
  const double seconds = static_cast<double>(bytes + frame_overhead_bytes) / p.bytes_per_second;
  busy = std::max(busy, world_.now()) + from_seconds(seconds);
  time_point arrives = busy + p.delay;
  if (p.jitter.count() > 0) arrives += duration(draws_.below(static_cast<std::uint64_t>(p.jitter.count()) + 1));
  while (p.loss > 0 && draws_.uniform() < p.loss) arrives += p.retry;
  time_point& last = last_arrival_[{from, to, in}];
  const bool overtaken = in == lane::bulk && p.reorder.count() > 0;
  if (overtaken)
    arrives += duration(draws_.below(static_cast<std::uint64_t>(p.reorder.count()) + 1));
  else
    arrives = last = std::max(arrives, last + duration(1));
  if (corrupted_.erase({from, to}) > 0)
    deliver = [this, from, to](simulated_transport&) { disconnect(to, from, {errc::checksum_mismatch, "a frame that does not open"}); };
  else if (in == lane::bulk && p.duplicate > 0 && draws_.uniform() < p.duplicate)
    arrive_at(arrives + duration(draws_.below(static_cast<std::uint64_t>(p.retry.count()) + 1)), from, to, serial, deliver);
  arrive_at(arrives, from, to, serial, std::move(deliver));
}

void network::arrive_at(time_point when, site_id from, site_id to, std::uint64_t serial,
                        std::function<void(simulated_transport&)> deliver) {
  world_.at(when, [this, from, to, serial, act = std::move(deliver)]() mutable {
    const auto end = ends_.find(to);
    if (end == ends_.end() || connection(from, to) != serial) return;
    if (waits(from, to, serial)) {
      waiting_[{from, to}].push_back(
          [this, from, to, serial, act = std::move(act)]() mutable { arrive_at(world_.now(), from, to, serial, std::move(act)); });
      return;
    }
    ++delivered_;
    act(*end->second);
  });
}

void network::release(site_id from, site_id to) {
  const auto hold = holds_.find({from, to});
  if (hold == holds_.end() || --hold->second > 0) return;
  holds_.erase(hold);
  deliver_waiting(from, to);
}

void network::reset(site_id a, site_id b) { disconnect(a, b, {errc::disconnected, "connection reset"}); }

void network::disconnect(site_id by, site_id other, error reason) {
  const auto found = connections_.find(std::minmax(by, other));
  if (found == connections_.end()) return;
  connections_.erase(found);
  const auto tell = [this](site_id at, site_id peer, error why) {
    const auto end = ends_.find(at);
    if (end == ends_.end() || connected(at, peer)) return;
    end->second->went_down(peer, std::move(why));
    const bool dials = end->second->kept_.contains(peer) && at != coordinator_id && (peer == coordinator_id || at > peer);
    if (dials) world_.after(back_off_min, [this, at, peer] { dial(at, peer, back_off_min); });
  };
  if (ends_.contains(by)) world_.after({}, [=] { tell(by, other, reason); });
  if (!is_cut(by, other)) {
    world_.after(path(by, other).delay, [=] { tell(other, by, {errc::disconnected, "the link was closed by the peer"}); });
  } else {  // the other end learns only when it tries again
    world_.after(back_off_max, [=] { tell(other, by, {errc::timed_out, "the link went silent"}); });
  }
}

}  // namespace isthmus::sim
