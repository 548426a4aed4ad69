#pragma once

#include "framework/core/clock.hpp"
#include "framework/core/rng.hpp"
#include "framework/emulator/steering.hpp"
#include "framework/transport/transport.hpp"

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

namespace isthmus::emulator {

/// A transport whose frames suffer what its links are told to. Frames of a link keep their order on each of its two paths. A link that is
/// cut or held and goes down comes up only when that is over: until then the wire's links are broken as soon as they are there.
class steered_transport final : public transport {
public:
  steered_transport(std::unique_ptr<transport> wire, std::uint64_t seed);
  ~steered_transport() override;

  void set(site_id peer, const link_state& state);
  void reset(site_id peer) { wire_->close(peer, {errc::disconnected, "connection reset"}); }
  /// The next bulk message leaves with its payload one byte short.
  void tear_next();

  void start(transport_events events) override;
  void keep(site_id peer, const std::string& address) override { wire_->keep(peer, address); }
  void forget(site_id peer) override { wire_->forget(peer); }
  void close(site_id peer, error reason) override { wire_->close(peer, std::move(reason)); }
  void send_control(site_id peer, shared_bytes bytes) override;
  void send_bulk(site_id peer, std::uint64_t id, shared_bytes header, shared_bytes payload) override;
  link_counters counters(site_id peer) const override { return wire_->counters(peer); }
  std::string address() const override { return wire_->address(); }
  void stop() override;

private:
  struct frame {
    bool bulk = false;
    std::uint64_t id = 0;
    shared_bytes header, payload;  // of a control frame: payload alone
    std::size_t size() const { return (header ? header->size() : 0) + (payload ? payload->size() : 0); }
  };
  struct waiting_frame {
    time_point due;
    frame what;
  };
  struct link {
    link_state state;
    bool up = false;  // as our owner knows it
    std::deque<waiting_frame> lanes[2];
    time_point busy{}, last[2];
  };

  void send(site_id peer, frame f);
  void hand_over(site_id peer, const frame& f);
  void went_up(site_id peer, incarnation_number incarnation);
  void went_down(site_id peer, error reason);
  void run();
  std::optional<time_point> send_due(std::unique_lock<std::mutex>& lock);

  std::unique_ptr<transport> wire_;
  transport_events events_;
  real_clock clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  rng draws_;
  std::map<site_id, link> links_;
  bool torn_ = false, ending_ = false;
  std::thread thread_;
};

}  // namespace isthmus::emulator
