#pragma once

#include "framework/sim/steered_network.hpp"
#include "framework/sim/world.hpp"
#include "framework/transport/transport.hpp"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

namespace isthmus::sim {

/// What one direction of a path does to frames.
struct path_conditions {
  duration delay = std::chrono::milliseconds(1);
  duration jitter{};  // added, uniform in [0, jitter]
  double bytes_per_second = 1e9;
  double loss = 0;  // chance that a frame needs a retransmission, which costs one more `retry`
  duration retry = std::chrono::milliseconds(200);
  double duplicate = 0;  // chance that a bulk message comes a second time
  duration reorder{};    // by so much at most a bulk message may be overtaken by later ones
};

/// A simulated wire between transports. It behaves like TCP seen from above: frames of one direction arrive whole and in order or,
/// when the connection breaks, not at all; bulk messages, which really take several connections, may be told to overtake each other. Behind a cut both ends still believe in the link until somebody closes it; if nobody does,
/// what was sent arrives once the cut is healed and a retransmission is due, which may take as long again as the cut did.
class network final : public steered_network {
public:
  explicit network(world& w) : world_(w), draws_(w.draw_stream(draw::network)) {}

  std::unique_ptr<transport> make_transport(const link_hello& hello);

  void set_path(site_id from, site_id to, path_conditions conditions) { paths_[{from, to}] = conditions; }
  void set_all_paths(path_conditions conditions) { default_path_ = conditions; }
  void worsen(site_id a, site_id b, const path_fault& fault) override { faults_[std::minmax(a, b)].push_back(fault); }
  void mend(site_id a, site_id b, const path_fault& fault) override;
  void cut(site_id from, site_id to) override;
  void cut_both(site_id a, site_id b) {
    cut(a, b);
    cut(b, a);
  }
  void heal(site_id from, site_id to) override;
  void heal_both(site_id a, site_id b) {
    heal(a, b);
    heal(b, a);
  }
  void heal_all();
  void hold(site_id from, site_id to) override { ++holds_[{from, to}]; }
  void release(site_id from, site_id to) override;
  /// The one that dials does so again.
  void reset(site_id a, site_id b) override;
  path_conditions path(site_id from, site_id to) const;
  /// The next bulk message from this site arrives with its payload one byte short.
  void tear_next(site_id from) override { torn_.insert(from); }
  void corrupt_next(site_id from, site_id to) override { corrupted_.insert({from, to}); }
  /// What bulk messages of this site become on their way: header and payload. Empty: nothing else than they are.
  using bulk_rewriter = std::function<std::pair<shared_bytes, shared_bytes>(shared_bytes header, shared_bytes payload)>;
  void rewrite_bulk(site_id from, bulk_rewriter how) { rewriters_[from] = std::move(how); }
  std::uint64_t delivered() const { return delivered_; }

private:
  friend class simulated_transport;
  struct attached;  // one transport, known by its site
  struct frame;

  void attach(site_id site, class simulated_transport* t) { ends_[site] = t; }
  void detach(site_id site, class simulated_transport* t);
  void dial(site_id from, site_id to, duration back_off);
  /// Control frames keep their order among themselves, and bulk messages do; as on two connections, one may overtake the other.
  enum class lane { control, bulk };
  void carry(site_id from, site_id to, lane in, std::uint64_t bytes, std::function<void(class simulated_transport&)> deliver);
  bool held(site_id from, site_id to) const { return holds_.contains({from, to}); }
  bool is_cut(site_id from, site_id to) const;
  /// Whether a frame of that connection that arrives now has to wait.
  bool waits(site_id from, site_id to, std::uint64_t serial) const;
  void deliver_waiting(site_id from, site_id to);
  void arrive_at(time_point when, site_id from, site_id to, std::uint64_t serial, std::function<void(class simulated_transport&)> deliver);
  bool connected(site_id a, site_id b) const { return connections_.contains(std::minmax(a, b)); }
  std::uint64_t connection(site_id a, site_id b) const;
  /// Ends the connection; `by` knows at once, the other end after the path's delay unless it is cut off.
  void disconnect(site_id by, site_id other, error reason);

  world& world_;
  rng draws_;
  path_conditions default_path_;
  std::map<std::pair<site_id, site_id>, path_conditions> paths_;
  std::map<std::pair<site_id, site_id>, std::vector<path_fault>> faults_;  // by both ends, the lower first
  std::map<std::pair<site_id, site_id>, time_point> busy_until_;           // the line is a queue
  std::map<std::tuple<site_id, site_id, lane>, time_point> last_arrival_;
  std::map<std::pair<site_id, site_id>, int> holds_;
  std::map<std::pair<site_id, site_id>, std::vector<std::function<void()>>> waiting_;  // arrived at a hold or a cut, in order
  struct outage {
    int cuts = 0;
    time_point since{};
    std::uint64_t stalled = 0;  // the connection that still waits for its retransmission; 0: none
  };
  std::map<std::pair<site_id, site_id>, outage> outages_;
  std::map<std::pair<site_id, site_id>, std::uint64_t> connections_;  // -> serial number; frames of an older one are lost
  std::set<site_id> torn_;
  std::set<std::pair<site_id, site_id>> corrupted_;
  std::map<site_id, bulk_rewriter> rewriters_;
  std::map<site_id, incarnation_number> seen_;  // by anybody, the highest
  std::map<site_id, class simulated_transport*> ends_;
  std::uint64_t serial_ = 0, delivered_ = 0;
};

}  // namespace isthmus::sim
