#include "actors/link.hpp"

#include "actors/messages.hpp"
#include "actors/spawn.hpp"
#include "framework/core/rare.hpp"
#include "framework/wire/wire.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/stateful_actor.hpp>

#include <map>
#include <optional>

namespace isthmus::actors {

namespace {

rare_site skips_a_beat("a heartbeat is not sent", 0.2);

struct link_state {
  link_settings settings;
  std::optional<wire::framer> frames;
  transport* bytes = nullptr;
  caf::actor owner;
  liveness beats{liveness::settings{}};
  incarnation_number incarnation = 0;
  bool up = false;
  std::uint64_t sequence = 0, bulk_id = 0;
  std::map<std::uint64_t, time_point> beats_out;  // sequence -> when it left
};

using link_actor = caf::stateful_actor<link_state>;

time_point now(link_actor* self) { return self->clock().now(); }
wire::frame_origin origin(link_actor* self) { return {self->state.settings.peer, self->state.incarnation}; }

void transmit(link_actor* self, const envelope& what) {
  auto& s = self->state;
  if (!s.up) return;  // whoever needs it there sends it again when the link is back
  wire::outgoing packed = s.frames->pack(what);
  if (packed.bulk) {
    s.bytes->send_bulk(s.settings.peer, ++s.bulk_id, std::move(packed.header), std::move(packed.payload));
  } else {
    s.bytes->send_control(s.settings.peer, std::move(packed.header));
  }
}

void went_down(link_actor* self, error reason) {
  auto& s = self->state;
  if (!s.up) return;
  s.up = false;
  s.beats.down();
  s.beats_out.clear();
  self->send(s.owner, link_changed{s.settings.peer, s.incarnation, false, std::move(reason)});
}

void take(link_actor* self, expected<envelope> got) {
  auto& s = self->state;
  if (!got) {  // a stranger's bytes: this connection cannot be trusted any further
    s.bytes->close(s.settings.peer, got.error());
    went_down(self, got.error());
    return;
  }
  s.beats.heard(now(self));
  if (const auto* beat = std::get_if<message::beat>(&got->body)) {
    self->send(s.owner, link_heard{s.settings.peer});
    if (beat->sequence > 0) transmit(self, {message::beat{0, beat->sequence}, nullptr});
    if (const auto sent = s.beats_out.find(beat->echo); sent != s.beats_out.end()) {
      s.beats.echoed(sent->second, now(self));
      s.beats_out.erase(s.beats_out.begin(), std::next(sent));
    }
    return;
  }
  self->send(s.owner, inbound{s.settings.peer, s.incarnation, std::move(*got)});
}

void tick(link_actor* self) {
  auto& s = self->state;
  self->delayed_send(self, s.settings.beats.interval, link_tick{});
  if (s.beats.is_dead(now(self))) {
    const error reason{errc::timed_out, "no heartbeat for " + std::to_string(to_seconds(s.beats.silence(now(self)))) + " s"};
    s.bytes->close(s.settings.peer, reason);
    went_down(self, reason);
  } else if (s.beats.beat_is_due(now(self))) {
    if (skips_a_beat()) return;
    s.beats_out.emplace(++s.sequence, now(self));
    transmit(self, {message::beat{s.sequence, 0}, nullptr});
  }
}

caf::behavior link(link_actor* self, link_settings settings, transport* bytes, caf::actor owner) {
  end_with_reason(self);
  auto& s = self->state;
  s.settings = std::move(settings);
  s.bytes = bytes;
  s.frames.emplace(s.settings.run_id, wire::frame_origin{s.settings.self, s.settings.incarnation});
  s.owner = std::move(owner);
  s.beats = liveness(s.settings.beats);
  self->delayed_send(self, s.settings.beats.interval, link_tick{});
  return {
      [=](const wire_up& m) {
        auto& state = self->state;
        went_down(self, {errc::disconnected, "replaced by a new connection"});
        state.incarnation = m.incarnation;
        state.up = true;
        state.beats.up(now(self));
        self->send(state.owner, link_changed{state.settings.peer, m.incarnation, true, {}});
      },
      [=](const wire_down& m) { went_down(self, m.reason); },
      [=](const wire_refused& m) {
        self->send(self->state.owner, link_refused{self->state.settings.peer, m.reason});
      },
      [=](const wire_control& m) { take(self, self->state.frames->unpack_control(origin(self), m.bytes->bytes())); },
      [=](const wire_bulk& m) { take(self, self->state.frames->unpack_bulk(origin(self), m.header->bytes(), m.payload)); },
      [=](const wire_sent&) { self->state.beats.heard(now(self)); },
      [=](const outbound& m) { transmit(self, m.what); },
      [=](const link_tick&) { tick(self); },
      [](const fail_link&) { throw contract_error("a rehearsed failure"); },
  };
}

}  // namespace

caf::actor spawn_link(caf::event_based_actor* owner, link_settings settings, transport& bytes) {
  return owner->spawn<caf::linked>(link, std::move(settings), &bytes, caf::actor_cast<caf::actor>(owner));
}

}  // namespace isthmus::actors
