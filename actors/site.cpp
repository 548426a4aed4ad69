#include "actors/site.hpp"

#include "actors/services.hpp"
#include "actors/site_state.hpp"
#include "framework/core/exit_code.hpp"

#include <algorithm>
#include <chrono>

namespace isthmus::actors {

bool write_line(site_actor* self, const std::string& line) {
  try {
    self->state.ledger->write(line);
    return true;
  } catch (const std::exception& e) {
    end(self, exit_environment, e.what());
    return false;
  }
}

void tell(site_actor* self, const std::string& kind, const std::string& text) { self->send(self->state.metrics, event_line{kind, text}); }

void progress(site_actor* self, const std::string& state, bool flush) {
  auto& s = self->state;
  s.progress = state;
  self->send(s.metrics, site_progress{state, static_cast<std::int64_t>(s.devices.size()), s.step, s.tokens, flush});
}

void send_to(site_actor* self, site_id to, envelope what) {
  const auto link = self->state.links.find(to);
  if (link != self->state.links.end()) self->send(link->second, outbound{to, std::move(what)});
}

void finish_when_saved(site_actor* self) {
  auto& s = self->state;
  if (!s.last_saved || !s.leases_closed || s.finished || s.ended) return;
  s.finished = true;
  progress(self, "finished", true);
  send_to(self, coordinator_id, {message::leave{"finished", true}, nullptr});
}

void end(site_actor* self, int exit_code, const std::string& reason) {
  auto& s = self->state;
  if (s.ended) return;
  s.ended = true;
  if (s.messages_to_nobody > 0)
    tell(self, "no_actor", std::to_string(s.messages_to_nobody) + " messages in all were for actors that nobody had registered");
  progress(self, exit_code == 0 ? "finished" : exit_code == 7 ? "stopped" : "dead", true);
  s.parts->stopped(exit_code, reason);
}

namespace {

constexpr auto tick_every = std::chrono::milliseconds(500);
constexpr auto leave_after = std::chrono::seconds(5);  // beyond the longest deadline of a round

/// The last word in the ledger: that nothing is outstanding, if so.
void take_leases_closed(site_actor* self, const leases_closed& m) {
  auto& s = self->state;
  if (m.for_good && !s.closing) return;  // the end became void meanwhile
  if (m.outstanding == 0 && !write_line(self, ledger::ended(m.for_good ? "finished" : "stopped: " + s.drain_reason))) return;
  if (m.for_good) {
    s.leases_closed = true;
    return finish_when_saved(self);
  }
  send_to(self, coordinator_id, {message::leave{s.drain_reason, false}, nullptr});
  end(self, exit_stopped, s.drain_reason);
}

/// A restart voided the rounds that had ended the run here: the site trains on, and its peers wait for it again.
void reopen(site_actor* self) {
  auto& s = self->state;
  if (s.leases_closed) {
    if (!write_line(self, ledger::reopened("its last rounds are void"))) return;
    tell(self, "reopened", "the end of the run is void: training goes on");
    progress(self, at_work(s));
  }
  s.closing = s.finished = s.last_saved = s.leases_closed = false;
  s.last_save.reset();
}

/// Who stops finishes the period first. Where no round can end it any more, the others being gone, the last checkpoint has to do: what is
/// outstanding returns at the next start.
void leave_when_stuck(site_actor* self) {
  auto& s = self->state;
  const auto longest = from_seconds(s.parts->plan.round.deadline_max_seconds);
  if (!s.draining || s.finished || s.last_save || s.ended || self->clock().now() - s.moved_at < longest + leave_after) return;
  tell(self, "drain", "no round ends the period: stopped without another checkpoint");
  send_to(self, coordinator_id, {message::leave{s.drain_reason, false}, nullptr});
  end(self, 7, s.drain_reason);
}

void tick(site_actor* self) {
  auto& s = self->state;
  self->delayed_send(self, tick_every, site_tick{});
  leave_when_stuck(self);
  const double seconds = std::chrono::duration<double>(tick_every).count();
  if (s.finished)
    send_to(self, coordinator_id, {message::leave{"finished", true}, nullptr});
  else
    send_to(self, coordinator_id, {message::report{s.step, s.tokens, s.loss, static_cast<double>(s.recent_tokens) / seconds}, nullptr});
  s.recent_tokens = 0;
  for (const auto& [peer, suspect] : s.suspects) send_to(self, coordinator_id, {suspect, nullptr});
  for (const auto& [peer, link] : s.links) {
    auto counters = s.parts->wire.counters(peer);
    self->send(s.metrics, link_sample{peer, s.links_up.contains(peer), counters});
  }
}

void begin(site_actor* self) {
  auto& s = self->state;
  s.metrics = spawn_metrics(self, s.parts);
  s.tokens = s.start->tokens;
  progress(self, "starting");
  if (!write_line(self, ledger::started(static_cast<std::uint32_t>(s.start->shapes.size())))) return;
  if (s.start->resumed && !write_line(self, ledger::checkpoint_loaded(s.start->checkpoint, s.start->checkpoint_hash, s.start->saved_by)))
    return;
  start_checkpoint(self);
  for (const auto& warning : s.start->warnings) tell(self, "warning", warning);
  start_groups(self);
  start_shard(self);
  for (std::int64_t i = 0; i < s.parts->plan.sites.at(s.parts->self).devices; ++i) start_device(self, static_cast<std::uint32_t>(i));
  start_trainer(self);
  start_auditor(self);
  wire_groups(self);
  for (const auto& [peer, address] : s.parts->addresses) start_link(self, peer);
  s.parts->wire.start(events_for(s.links_by_peer));
  for (const auto& [peer, address] : s.parts->addresses) s.parts->wire.keep(peer, address);
  self->delayed_send(self, tick_every, site_tick{});
}

caf::behavior site(site_actor* self, std::shared_ptr<site_parts> parts) {
  end_with_reason(self);
  auto& s = self->state;
  s.parts = std::move(parts);
  s.links_by_peer = std::make_shared<link_table>();
  self->set_exit_handler([=](caf::exit_msg& m) { child_ended(self, m); });
  self->set_down_handler([=](caf::down_msg& m) { forget_named(self, m); });
  auto start = start_site(*s.parts);
  if (!start) {
    s.ended = true;
    s.parts->stopped(exit_code_of(start.error().code), start.error().message);
    return {[](const site_tick&) {}};
  }
  s.start = std::make_shared<site_start>(std::move(*start));
  auto writer = ledger_writer::open(s.parts->disk, ledger_writer::path_of(s.parts->self), s.parts->self, s.parts->incarnation);
  if (!writer) {
    s.ended = true;
    s.parts->stopped(exit_code_of(writer.error().code), writer.error().message);
    return {[](const site_tick&) {}};
  }
  s.ledger = std::make_shared<shared_ledger>(std::move(*writer));
  begin(self);
  return {
      [=](const inbound& m) { take_inbound(self, m); },
      [=](const outbound& m) { send_to(self, m.to, m.what); },
      [=](const link_changed& m) { take_link_change(self, m); },
      [=](const link_refused& m) { take_link_refusal(self, m); },
      [](const link_heard&) {},
      [=](const group_holds& m) {
        self->state.held[m.held.group] = m.held;
        self->state.moved_at = self->clock().now();
        seal_again(self);
      },
      [=](const group_sealed& m) { take_seal(self, m); },
      [=](const group_synced& m) { take_group_synced(self, m); },
      [=](const group_started& m) { take_group_started(self, m); },
      [=](const leases_recovered&) {
        progress(self, at_work(self->state));
        self->send(self->state.trainer, begin_training{self->state.step});
      },
      [=](const step_sample& m) {
        auto& state = self->state;
        state.step = m.step;
        state.moved_at = self->clock().now();
        state.tokens += m.tokens;
        state.recent_tokens += m.tokens;
        state.loss = m.loss;
      },
      [=](const save_boundary& m) { begin_save(self, m); },
      [=](const group_saved& m) { take_group_saved(self, m); },
      [=](const cursor& m) { take_cursor(self, m); },
      [=](const checkpoint_written& m) { take_checkpoint(self, m); },
      [=](const run_finished&) {
        self->state.closing = true;
        self->send(self->state.shard, close_leases{true});
      },
      [=](const run_reopened&) { reopen(self); },
      [=](const leases_closed& m) { take_leases_closed(self, m); },
      [=](const drain& m) {
        auto& state = self->state;
        if (state.draining) return;
        state.draining = true;
        state.drain_reason = m.reason;
        state.moved_at = self->clock().now();
        tell(self, "drain", m.reason);
        if (!state.training) return end(self, 7, m.reason);  // nothing was begun
        self->send(state.trainer, m);
      },
      [=](const fail_device& m) {
        const auto device = self->state.devices.find(m.device);
        if (device != self->state.devices.end()) self->send(device->second, m);
      },
      [=](const fail_child& m) { take_fail_child(self, m); },
      [=](const save_now& m) { self->send(self->state.trainer, m); },
      [=](const register_actor& m) { register_named(self, m); },
      [=](const send_to_actor& m) { send_to_named(self, m); },
      [=](const site_tick&) { tick(self); },
  };
}

}  // namespace

caf::actor spawn_site(caf::actor_system& system, std::shared_ptr<site_parts> parts) { return system.spawn(site, std::move(parts)); }

}  // namespace isthmus::actors
