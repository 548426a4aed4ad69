// Users' own actors: a name here, a message from a site there.
#include "actors/site_state.hpp"

#include <algorithm>

namespace isthmus::actors {

namespace {

constexpr std::size_t name_bytes_max = 128, unknown_names_max = 64;

void deliver(site_actor* self, site_id from, const std::string& name, const shared_bytes& payload) {
  auto& s = self->state;
  if (const auto found = s.named.find(name); found != s.named.end()) return self->send(found->second, from_actor{from, name, payload});
  ++s.messages_to_nobody;
  if (s.names_of_nobody.size() >= unknown_names_max || !s.names_of_nobody.insert(name).second) return;
  tell(self, "no_actor", "site " + std::to_string(from) + " sends to \"" + name + "\", but no actor has registered under that name");
}

}  // namespace

void take_to_actor(site_actor* self, const inbound& m) {
  deliver(self, m.from, std::get<message::to_actor>(m.what.body).name, m.what.payload);
}

void send_to_named(site_actor* self, const send_to_actor& m) {
  ensure(!m.name.empty() && m.name.size() <= name_bytes_max, "send_to_actor: a name has 1 to 128 bytes");
  const auto payload = m.payload ? m.payload : make_shared_bytes({});
  if (m.site == self->state.parts->self) return deliver(self, m.site, m.name, payload);
  send_to(self, m.site, {message::to_actor{m.name}, payload});
}

void register_named(site_actor* self, const register_actor& m) {
  auto& s = self->state;
  s.named[m.name] = m.handle;
  s.names_of_nobody.erase(m.name);
  self->monitor(m.handle);
}

void forget_named(site_actor* self, const caf::down_msg& m) {
  std::erase_if(self->state.named, [&](const auto& entry) { return entry.second.address() == m.source; });
}

}  // namespace isthmus::actors
