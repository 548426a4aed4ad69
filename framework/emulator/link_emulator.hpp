#pragma once

#include "framework/core/clock.hpp"
#include "framework/core/rng.hpp"
#include "framework/emulator/packet.hpp"
#include "framework/sim/steered_network.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

namespace isthmus::emulator {

/// What a path does to IP packets. Chances are of each packet.
struct packet_conditions {
  duration delay{}, jitter{};       // jitter: added, uniform in [0, jitter]; order is kept
  double loss = 0, duplicate = 0;   // duplicate: it arrives twice
  double reorder = 0;               // it overtakes what waits, without delay
  duration overtaken{};             // it comes up to so much later, and what was behind it before it
  double corrupt = 0;               // one bit of it, drawn, is flipped
  double bytes_per_second = 1e300;  // behind a queue of 250 ms or 64 KiB, whichever is more; what does not fit is dropped
};

/// What became of packets.
struct packet_counters {
  std::uint64_t taken = 0, delivered = 0, cut = 0, lost = 0, overflowed = 0, duplicated = 0, reordered = 0, corrupted = 0, torn = 0,
                resets = 0;
};

/// Links between hosts as a queue of IP packets, without a thread, a clock or a device of its own: what the emulator of real links does
/// to each packet, and when. The same packets at the same times under the same seed fare the same.
class link_emulator final : public sim::steered_network {
public:
  explicit link_emulator(std::uint64_t seed) : draws_(seed, 0, 0, draw::network) {}

  /// Of paths in both directions, below the faults. A path that is named keeps its own.
  void set_all_paths(const packet_conditions& conditions) { default_path_ = conditions; }
  void set_path(site_id from, site_id to, const packet_conditions& conditions) { paths_[{from, to}] = conditions; }

  /// A packet leaves its host.
  void take(site_id from, site_id to, packet bytes, time_point now);
  /// When something is due next; may lie in the past.
  std::optional<time_point> next_due() const;
  /// Hands over what has arrived by now, in its order.
  void deliver(time_point now, const std::function<void(site_id to, const packet& bytes)>& arrived);
  packet_counters counters() const { return counters_; }

  void cut(site_id from, site_id to) override { ++cuts_[{from, to}]; }
  void heal(site_id from, site_id to) override { lift(cuts_, {from, to}); }
  void hold(site_id from, site_id to) override { ++holds_[{from, to}]; }
  void release(site_id from, site_id to) override { lift(holds_, {from, to}); }
  void worsen(site_id a, site_id b, const sim::path_fault& fault) override { faults_[std::minmax(a, b)].push_back(fault); }
  void mend(site_id a, site_id b, const sim::path_fault& fault) override;
  /// Both ends of every TCP connection between them that was seen get a reset.
  void reset(site_id a, site_id b) override;
  /// The next full TCP segment has its last byte flipped, its checksum right again: what is sealed does not open.
  void tear_next(site_id from) override { torn_.insert(from); }
  /// The same of the next TCP segment with a payload, of whatever size, on one path.
  void corrupt_next(site_id from, site_id to) override { spoiled_.insert({from, to}); }

private:
  using way = std::pair<site_id, site_id>;
  /// One direction of a TCP connection, as its last packet told.
  struct flow {
    packet_view last;
    std::uint32_t next = 0;  // the sequence number behind what was sent
  };
  using flow_key = std::tuple<site_id, site_id, std::uint16_t, std::uint16_t>;
  struct under_way {
    way path;
    packet bytes;
  };

  static void lift(std::map<way, int>& counts, way path);
  packet_conditions conditions(way path) const;
  void follow(way path, const packet_view& view);
  void send(way path, packet bytes, time_point when) { queue_.emplace(std::pair(when, ++sequence_), under_way{path, std::move(bytes)}); }

  rng draws_;
  packet_conditions default_path_;
  std::map<way, packet_conditions> paths_;
  std::map<way, int> cuts_, holds_;
  std::map<way, std::vector<sim::path_fault>> faults_;  // by both ends, the lower first
  std::map<way, time_point> busy_until_, last_arrival_;
  std::map<way, std::vector<packet>> waiting_;                       // at a hold
  std::map<std::pair<time_point, std::uint64_t>, under_way> queue_;  // by arrival
  std::map<flow_key, flow> flows_;
  std::set<site_id> torn_;
  std::set<way> spoiled_;
  packet_counters counters_;
  std::uint64_t sequence_ = 0, waiting_bytes_ = 0;
};

}  // namespace isthmus::emulator
