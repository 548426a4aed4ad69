#pragma once

#include "framework/rounds/liveness.hpp"
#include "framework/rounds/messages.hpp"
#include "framework/transport/transport.hpp"

#include <caf/fwd.hpp>

#include <string>

namespace isthmus::actors {

struct link_settings {
  site_id self = 0, peer = 0;
  incarnation_number incarnation = 0;  // ours
  std::string run_id;                  // every frame carries it
  liveness::settings beats;
};

/// The only door to the wire towards one peer: packs what it is sent (outbound), unpacks what comes (inbound, to the owner), beats, and
/// breaks the link when the peer falls silent. Tells its owner link_changed, and link_refused when the peer will not have us. Borrows
/// bytes, which outlives it. Errors in a peer's bytes close the link; they never stop the actor.
/// The owner spawns and links with it.
caf::actor spawn_link(caf::event_based_actor* owner, link_settings settings, transport& bytes);

}  // namespace isthmus::actors
