#include "actors/auditor.hpp"
#include "actors/group.hpp"
#include "actors/link.hpp"
#include "actors/services.hpp"
#include "actors/shard.hpp"
#include "actors/site_state.hpp"
#include "actors/trainer.hpp"
#include "framework/core/exit_code.hpp"
#include "framework/data/sample_order.hpp"

#include <caf/exit_reason.hpp>
#include <caf/send.hpp>

#include <algorithm>
#include <chrono>
#include <map>
#include <string>

namespace isthmus::actors {

namespace {

constexpr std::int64_t audit_periods_max = 8;  // of local steps in one contribution

std::uint64_t sites_that_train(const recipe& plan) {
  return static_cast<std::uint64_t>(std::ranges::count_if(plan.sites, [](const auto& site) { return !site.spare; }));
}

link_settings link_settings_of(const site_parts& parts, site_id peer) {
  const auto& links = parts.plan.links;
  return {parts.self,
          peer,
          parts.incarnation,
          parts.run_id,
          {std::chrono::milliseconds(links.heartbeat_ms), std::chrono::milliseconds(links.dead_after_ms)}};
}

}  // namespace

void start_link(site_actor* self, site_id peer) {
  auto& s = self->state;
  s.links[peer] = spawn_link(self, link_settings_of(*s.parts, peer), s.parts->wire);
  s.links_by_peer->set(peer, s.links[peer]);
}

caf::actor start_device(site_actor* self, std::uint32_t index) {
  auto& s = self->state;
  device_settings d;
  d.index = index;
  d.context = s.parts->plan.train.context;
  d.gradient_takes = s.parts->gradient_takes;
  d.tokens_per_slice = s.parts->tokens_per_slice;
  d.memory = s.start->memory;
  d.make_learner = s.parts->arithmetic.make_learner;
  d.update = s.parts->arithmetic.update;
  d.squared_norm = s.parts->arithmetic.squared_norm;
  return s.devices[index] = spawn_device(self, s.parts->where, std::move(d));
}

void start_groups(site_actor* self) {
  auto& s = self->state;
  auto& start = *s.start;
  const auto write = [ledger = s.ledger](const std::string& line) { ledger->write_synced(line); };
  for (std::size_t i = 0; i < start.shapes.size(); ++i) {
    const auto& settings = start.settings[i];
    const auto weights = std::as_const(*start.memory->weights).span();
    const auto initial = weights.subspan(static_cast<std::size_t>(settings.shape.offset), static_cast<std::size_t>(settings.shape.size));
    group_parts parts;
    parts.group = start.groups[i] ? std::make_unique<parameter_group>(settings, *start.groups[i])
                                  : std::make_unique<parameter_group>(settings, initial);
    contribution_settings book;
    book.self = s.parts->self;
    book.incarnation = s.parts->incarnation;
    book.shape = settings.shape;
    book.codecs = settings.codecs;
    book.reference_tokens = static_cast<std::uint64_t>(reference_tokens(s.parts->plan));
    book.residual_decay = static_cast<float>(s.parts->plan.round.residual_decay);
    parts.book = std::make_unique<contribution_book>(std::move(book));
    parts.saved_book = std::move(start.books[i]);
    parts.memory = start.memory;
    parts.write_ledger = write;
    s.held[static_cast<group_id>(i)] = parts.group->held();
    s.groups.push_back(spawn_group(self, s.parts->where, std::move(parts), settings, s.metrics));
    start.groups[i].reset();
  }
}

void start_shard(site_actor* self) {
  auto& s = self->state;
  const auto ledger = s.ledger;
  shard_settings shard{s.parts->tokens,
                       s.parts->plan.train.context,
                       static_cast<std::uint64_t>(s.parts->plan.run.seed),
                       std::move(*s.start->leases),
                       {},
                       {}};
  shard.granted = [ledger](const std::vector<lease>& leases, step_number step) {
    for (const auto& range : leases) ledger->write(ledger::granted(step, range));
  };
  shard.settled = [ledger](const lease_settlement& settled, std::string_view reason) {
    for (const auto& range : settled.returned) ledger->write(ledger::returned(range, reason));
    for (const auto& range : settled.written_off) ledger->write(ledger::written_off(range, reason));
    for (const auto& part : settled.partial) ledger->write(ledger::partial(part.range, part.missed));
  };
  s.shard = spawn_shard(self, std::move(shard));
}

void start_checkpoint(site_actor* self) {
  auto& s = self->state;
  s.checkpoint = spawn_checkpoint(self, s.parts, s.ledger->last_checkpoint(),
                                  [ledger = s.ledger](const std::string& line) { ledger->write_synced(line); });
}

void start_trainer(site_actor* self) {
  auto& s = self->state;
  const recipe& plan = s.parts->plan;
  trainer_settings t;
  t.groups = static_cast<std::uint32_t>(s.groups.size());
  t.devices = static_cast<std::uint32_t>(s.devices.size());
  t.inner_steps = static_cast<std::uint32_t>(plan.round.inner_steps);
  t.rows_per_step = rows_per_step(plan);
  t.context = plan.train.context;
  t.layout_size = s.start->memory->layout.size;
  t.clip_norm = plan.train.clip_norm;
  t.sites = sites_that_train(plan);
  t.learning_rate = learning_rates(plan);
  t.evaluation_every_rounds = static_cast<std::uint64_t>(plan.data.evaluation_every_rounds);
  t.checkpoint_every_rounds = static_cast<std::uint64_t>(plan.checkpoint.every_rounds);
  const auto& held_out = s.parts->tokens->held_out;
  const std::int64_t wanted = plan.data.held_out_tokens / plan.train.context;
  t.held_out_rows = std::min<std::int64_t>(wanted, static_cast<std::int64_t>(sample_count(held_out, plan.train.context)));
  auto ids = std::make_shared<std::vector<std::int32_t>>(static_cast<std::size_t>(t.held_out_rows * (t.context + 1)));
  if (t.held_out_rows > 0) batch_reader(held_out, t.context, 0, s.parts->self).fill_evenly(*ids);
  t.held_out = std::move(ids);
  t.rest = s.parts->rest;
  std::vector<caf::actor> devices;
  for (const auto& [index, handle] : s.devices) devices.push_back(handle);
  s.trainer = spawn_trainer(self, std::move(t), s.shard, s.groups, std::move(devices), s.metrics);
}

void start_auditor(site_actor* self) {
  auto& s = self->state;
  const recipe& plan = s.parts->plan;
  if (plan.guard.audit_rate == 0 || s.parts->audits.texts.empty()) return;
  auditor_settings a;
  a.arithmetic = s.parts->audits.arithmetic();
  a.texts = s.parts->audits.texts;
  a.shapes = s.start->shapes;
  a.codecs = s.start->settings.front().codecs;
  a.seed = static_cast<std::uint64_t>(plan.run.seed);
  a.context = plan.train.context;
  a.rows_per_step = rows_per_step(plan);
  a.tokens_per_slice = s.parts->tokens_per_slice;
  a.steps_max = audit_periods_max * plan.round.inner_steps;
  a.clip_norm = plan.train.clip_norm;
  a.sites = sites_that_train(plan);
  a.learning_rate = learning_rates(plan);
  a.gradient_takes = s.parts->gradient_takes;
  s.auditor = spawn_auditor(self, s.parts->where, std::move(a), s.metrics);
}

void wire_groups(site_actor* self) {
  const auto& s = self->state;
  for (const auto& group : s.groups) self->send(group, group_wiring{s.trainer, s.shard, s.auditor});
}

namespace {

/// Spends one restart of that child; false when it has none left.
bool may_restart(site_actor* self, const std::string& what) { return self->state.budgets[what].spend(self->clock().now()); }

void tell_crash(site_actor* self, const std::string& what, const std::string& why, bool restarted) {
  tell(self, "crash", what + " failed (" + why + ")" + (restarted ? "; restarted" : "; over its restart budget"));
}

void link_ended(site_actor* self, site_id peer, const std::string& why) {
  const std::string what = "link to " + std::to_string(peer);
  const bool again = may_restart(self, what);
  tell_crash(self, what, why, again);
  if (!again) return end(self, 1, "the link actor to site " + std::to_string(peer) + " keeps failing");
  self->state.parts->wire.close(peer, {errc::disconnected, "its link actor failed"});
  start_link(self, peer);
}

void device_ended(site_actor* self, std::uint32_t index, const std::string& why) {
  auto& s = self->state;
  const std::string what = "device " + std::to_string(index);
  const bool again = may_restart(self, what);
  tell_crash(self, what, why, again);
  self->send(s.trainer, device_lost{index, why});
  if (again) {
    self->send(s.trainer, device_ready{index, start_device(self, index)});
    return;
  }
  s.devices.erase(index);
  if (s.devices.empty()) end(self, 1, "no device is left");
}

/// What it had not written is written again by the next one.
void checkpoint_ended(site_actor* self, const std::string& why) {
  auto& s = self->state;
  const bool again = may_restart(self, "checkpoint");
  tell_crash(self, "checkpoint", why, again);
  if (!again) return end(self, 1, "the checkpoint actor keeps failing: " + why);
  start_checkpoint(self);
  for (const auto& copy : s.writing) self->send(s.checkpoint, copy);
}

/// A site trains on without its auditor; what was under way is not audited.
void auditor_ended(site_actor* self, const std::string& why) {
  auto& s = self->state;
  const bool again = may_restart(self, "auditor");
  tell_crash(self, "auditor", why, again);
  s.auditor = {};
  if (again) start_auditor(self);
  wire_groups(self);
}

void metrics_ended(site_actor* self, const std::string& why) {
  auto& s = self->state;
  if (!may_restart(self, "metrics")) return end(self, 1, "the metrics actor keeps failing: " + why);
  s.metrics = spawn_metrics(self, s.parts);
  tell_crash(self, "metrics", why, true);
  progress(self, s.progress);
  self->send(s.trainer, metrics_restarted{s.metrics});
  for (const auto& group : s.groups) self->send(group, metrics_restarted{s.metrics});
  if (s.auditor) self->send(s.auditor, metrics_restarted{s.metrics});
}

}  // namespace

void child_ended(site_actor* self, const caf::exit_msg& m) {
  auto& s = self->state;
  if (s.ended) return;
  if (const std::string failure = s.ledger->failure(); !failure.empty()) return end(self, exit_environment, failure);
  const auto is = [&](const caf::actor& a) { return a && a.address() == m.source; };
  const std::string why = caf::to_string(m.reason);
  for (const auto& [peer, link] : s.links)
    if (is(link)) return link_ended(self, peer, why);
  for (const auto& [index, device] : s.devices)
    if (is(device)) return device_ended(self, index, why);
  if (is(s.checkpoint)) return checkpoint_ended(self, why);
  if (is(s.metrics)) return metrics_ended(self, why);
  if (is(s.auditor)) return auditor_ended(self, why);
  end(self, 1, "an actor of the site failed: " + why);
}

void take_fail_child(site_actor* self, const fail_child& m) {
  const auto& s = self->state;
  std::map<std::string, caf::actor> children{
      {"metrics", s.metrics}, {"checkpoint", s.checkpoint}, {"shard", s.shard}, {"trainer", s.trainer}};
  if (s.auditor) children["auditor"] = s.auditor;
  for (const auto& [peer, link] : s.links) children["link to " + std::to_string(peer)] = link;
  for (std::size_t i = 0; i < s.groups.size(); ++i) children["group " + std::to_string(i)] = s.groups[i];
  const auto child = children.find(m.name);
  if (child == children.end()) return;
  // At once, whatever waits in its mailbox; and not in our name, which would undo the link before it dies, and nobody would hear.
  caf::anon_send<caf::message_priority::high>(child->second, caf::exit_msg{child->second.address(), caf::exit_reason::unhandled_exception});
}

}  // namespace isthmus::actors
