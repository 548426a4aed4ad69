#include "actors/wire_events.hpp"

#include "actors/messages.hpp"

#include <caf/send.hpp>

namespace isthmus::actors {

void link_table::set(site_id peer, caf::actor link) {
  const std::lock_guard lock(mutex_);
  links_[peer] = std::move(link);
}

caf::actor link_table::get(site_id peer) const {
  const std::lock_guard lock(mutex_);
  const auto found = links_.find(peer);
  return found == links_.end() ? caf::actor{} : found->second;
}

namespace {
template <class Message>
void hand_on(const link_table& links, site_id peer, Message what) {
  if (const caf::actor link = links.get(peer)) caf::anon_send(link, std::move(what));
}
}  // namespace

transport_events events_for(std::shared_ptr<const link_table> links) {
  transport_events events;
  events.up = [links](site_id peer, incarnation_number incarnation) { hand_on(*links, peer, wire_up{incarnation}); };
  events.down = [links](site_id peer, error reason) { hand_on(*links, peer, wire_down{std::move(reason)}); };
  events.refused = [links](site_id peer, error reason) { hand_on(*links, peer, wire_refused{std::move(reason)}); };
  events.control = [links](site_id peer, shared_bytes bytes) { hand_on(*links, peer, wire_control{std::move(bytes)}); };
  events.bulk = [links](site_id peer, shared_bytes header, shared_bytes payload) {
    hand_on(*links, peer, wire_bulk{std::move(header), std::move(payload)});
  };
  events.sent = [links](site_id peer, std::uint64_t id, expected<void> outcome) {
    hand_on(*links, peer, wire_sent{id, outcome ? error{} : outcome.error()});
  };
  return events;
}

}  // namespace isthmus::actors
