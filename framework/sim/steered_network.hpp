#pragma once

#include "framework/core/clock.hpp"
#include "framework/rounds/messages.hpp"

#include <functional>

namespace isthmus::sim {

struct planned_fault;

/// What a fault does to both directions of a path while it lasts.
struct path_fault {
  duration delay{}, jitter{}, reorder{};  // added
  double loss = 0, duplicate = 0;         // added
  double bytes_per_second = 1e300;        // at most
  bool operator==(const path_fault&) const = default;
};

/// Links that faults can be done to while they are used, whoever carries them: the simulated network, the emulator between network
/// namespaces, the processes' own transports. What is done twice needs its undoing twice.
class steered_network {
public:
  virtual ~steered_network() = default;
  /// Nothing from `from` reaches `to` any more, what is under way neither; both ends still believe in the link.
  virtual void cut(site_id from, site_id to) = 0;
  virtual void heal(site_id from, site_id to) = 0;
  /// What `from` sends to `to` waits, and arrives in its order once released.
  virtual void hold(site_id from, site_id to) = 0;
  virtual void release(site_id from, site_id to) = 0;
  /// Faults of one path add up; each is taken away by itself, as it was given.
  virtual void worsen(site_id a, site_id b, const path_fault& fault) = 0;
  virtual void mend(site_id a, site_id b, const path_fault& fault) = 0;
  /// Their connection breaks, and both ends learn of it.
  virtual void reset(site_id a, site_id b) = 0;
  /// The next bulk message from this site does not arrive as it was sent.
  virtual void tear_next(site_id from) = 0;
  /// The next frame from `from` to `to` does not open there: that end closes the connection.
  virtual void corrupt_next(site_id from, site_id to) = 0;
};

/// Does a fault of links to the path between its site and that peer. Gives what undoes it; nothing when there is nothing to undo.
/// `net` must outlive the undoing.
std::function<void()> hurt_link(steered_network& net, const planned_fault& fault, site_id peer);

}  // namespace isthmus::sim
