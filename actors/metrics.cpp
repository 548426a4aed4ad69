#include "actors/messages.hpp"
#include "actors/services.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace isthmus::actors {

namespace {

constexpr auto flush_every = std::chrono::milliseconds(500);

struct metrics_state {
  static constexpr const char* name = "metrics";
  std::shared_ptr<const site_parts> parts;
  site_row site;
};
using metrics_actor = caf::stateful_actor<metrics_state>;

double wall(metrics_actor* self) { return self->state.parts->wall.wall_seconds(); }

void put_site(metrics_actor* self) {
  auto& s = self->state;
  s.site.wall = wall(self);
  s.parts->metrics.put(s.site);
}

void on_step(metrics_actor* self, const step_sample& m) {
  auto& site = self->state.site;
  const double rate = m.seconds > 0 ? static_cast<double>(m.tokens) / m.seconds : 0;
  site.step = m.step;
  site.tokens = m.step * m.tokens;  // also where this actor has not seen all steps
  site.loss = site.loss == 0 ? m.loss : 0.9 * site.loss + 0.1 * m.loss;
  site.tokens_per_second = site.tokens_per_second == 0 ? rate : 0.9 * site.tokens_per_second + 0.1 * rate;
  site.state = "training";
  self->state.parts->metrics.put(sample_row{site.site, m.step, site.tokens, m.loss, m.learning_rate, m.gradient_norm, rate, wall(self)});
  put_site(self);
}

void on_round(metrics_actor* self, const round_sample& m) {
  auto& s = self->state;
  s.site.round = m.record.round;
  s.site.epoch = m.record.epoch;
  if (m.record.home != s.site.site) return;
  std::string names;
  std::uint64_t tokens = 0;
  for (const auto& c : m.record.contributors) {
    if (is_veto(c.judged)) continue;
    names += (names.empty() ? "" : ",") + std::to_string(c.site);
    tokens += c.counted();
  }
  s.parts->metrics.put(round_row{m.record.group, m.record.round, m.record.epoch, m.record.home, names, tokens, m.bytes_down, m.seconds,
                                 m.record.anchor_hash.hex(), wall(self)});
}

void on_link(metrics_actor* self, const link_sample& m) {
  const auto& c = m.counters;
  self->state.parts->metrics.put(link_row{self->state.site.site, m.peer, m.up ? "up" : "down", c.round_trip_seconds,
                                          c.send_bytes_per_second, c.control_bytes_out + c.bulk_bytes_out,
                                          c.control_bytes_in + c.bulk_bytes_in, c.payload_bytes_out, c.payload_bytes_in, c.bytes_in_flight,
                                          c.reconnects, wall(self)});
}

void on_event(metrics_actor* self, const event_line& m) {
  const auto& parts = *self->state.parts;
  parts.metrics.put(event_row{0, parts.plan.sites.at(parts.self).name, m.kind, m.text, wall(self)});
}

caf::behavior metrics(metrics_actor* self, std::shared_ptr<const site_parts> parts) {
  end_with_reason(self);
  auto& s = self->state;
  s.parts = std::move(parts);
  const auto& site = s.parts->plan.sites.at(s.parts->self);
  s.site.site = s.parts->self;
  s.site.name = site.name;
  s.site.incarnation = s.parts->incarnation;
  s.site.state = "starting";
  s.site.devices = s.site.devices_wanted = site.devices;
  put_site(self);
  self->delayed_send(self, flush_every, metrics_tick{});
  return {
      [=](const step_sample& m) { on_step(self, m); },
      [=](const round_sample& m) { on_round(self, m); },
      [=](const link_sample& m) { on_link(self, m); },
      [=](const event_line& m) { on_event(self, m); },
      [=](const evaluation_sample& m) {
        const auto& p = *self->state.parts;
        p.metrics.put(evaluation_row{p.self, m.round, m.tokens_total, p.domain, m.loss, p.unigram_entropy, m.tokens, wall(self)});
      },
      [=](const checkpoint_written& m) {
        auto& state = self->state;
        if (m.error.empty())
          state.parts->metrics.put(checkpoint_row{state.parts->self, m.round, m.step, m.folder, m.bytes, m.seconds, wall(self)});
        else
          on_event(self, {"checkpoint_failed", m.error + "; what was saved before stands"});
      },
      [=](const site_progress& m) {
        auto& row = self->state.site;
        row.step = std::max(row.step, m.step);
        row.tokens = std::max(row.tokens, m.tokens);
        row.devices = m.devices;
        row.state = m.state;
        put_site(self);
        if (m.flush) self->state.parts->metrics.flush();
      },
      [=](const flush_rows&) { self->state.parts->metrics.flush(); },
      [=](const metrics_tick&) {
        self->delayed_send(self, flush_every, metrics_tick{});
        self->state.parts->metrics.flush();
      },
  };
}

}  // namespace

caf::actor spawn_metrics(caf::event_based_actor* owner, std::shared_ptr<const site_parts> parts) {
  return parts->where == tier::real ? owner->spawn<caf::linked + caf::detached>(metrics, parts) : owner->spawn<caf::linked>(metrics, parts);
}

}  // namespace isthmus::actors
