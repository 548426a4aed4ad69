#pragma once

#include "framework/transport/transport.hpp"

#include <caf/actor.hpp>

#include <map>
#include <memory>
#include <mutex>

namespace isthmus::actors {

/// Which link actor serves which peer just now. The transport's thread reads it, the supervisor replaces what it restarts.
class link_table {
public:
  void set(site_id peer, caf::actor link);
  caf::actor get(site_id peer) const;

private:
  mutable std::mutex mutex_;
  std::map<site_id, caf::actor> links_;
};

/// Hands what a transport hears to the link actors: no work is done on the transport's thread.
transport_events events_for(std::shared_ptr<const link_table> links);

}  // namespace isthmus::actors
