#include "actors/site.hpp"

#include "actors/group.hpp"
#include "actors/link.hpp"
#include "actors/messages.hpp"
#include "actors/services.hpp"
#include "actors/shard.hpp"
#include "actors/site_start.hpp"
#include "actors/trainer.hpp"
#include "actors/wire_events.hpp"
#include "framework/rounds/ledger.hpp"
#include "framework/rounds/restart_budget.hpp"

#include <algorithm>
#include <mutex>
#include <set>

namespace isthmus::actors {

namespace {

constexpr auto tick_every = std::chrono::milliseconds(500);
constexpr auto leave_after = std::chrono::seconds(5);  // beyond the longest deadline of a round

/// The ledger is written by several actors of the site, one line at a time.
class shared_ledger {
public:
  explicit shared_ledger(std::unique_ptr<ledger_writer> writer) : writer_(std::move(writer)) {}
  /// False when the line could not be written: from then on the ledger has a hole and says so no more.
  bool write(const std::string& line) {
    const std::lock_guard lock(mutex_);
    return writer_->write(line).has_value();
  }

private:
  std::mutex mutex_;
  std::unique_ptr<ledger_writer> writer_;
};

/// A copy of the site in the making: what has answered so far.
struct save_in_progress {
  save_boundary at;
  std::vector<std::shared_ptr<const group_snapshot>> groups;
  std::vector<std::shared_ptr<const contribution_snapshot>> books;
  std::string cursor;
  std::size_t missing = 0;
};

struct site_state {
  std::shared_ptr<site_parts> parts;
  std::shared_ptr<site_start> start;
  std::shared_ptr<shared_ledger> ledger;
  std::shared_ptr<link_table> links_by_peer;

  caf::actor metrics, checkpoint, shard, trainer;
  std::map<site_id, caf::actor> links;
  std::set<site_id> links_up;
  std::vector<caf::actor> groups;
  std::map<std::uint32_t, caf::actor> devices;
  std::map<std::string, restart_budget> budgets;

  epoch_view view;
  std::map<group_id, held_record> held;
  std::map<epoch_number, std::map<group_id, held_record>> seals;  // answers gathered for a seal
  std::map<group_id, epoch_number> group_epochs;                  // settled in
  epoch_number said_synced = 0;
  std::map<site_id, message::suspect> suspects;                   // peers whose link is down
  std::map<group_id, contributor> marks;                          // of this site, when its groups first settled
  bool training = false;

  std::optional<save_in_progress> saving;
  step_number step = 0;
  std::uint64_t tokens = 0, recent_tokens = 0;
  double loss = 0;
  bool finished = false, draining = false, last_save = false, ended = false;
  std::string drain_reason;
  time_point moved_at{};  // the last step, record or request to stop
};
using site_actor = caf::stateful_actor<site_state>;

void write_line(site_actor* self, const std::string& line) { self->state.ledger->write(line); }

void tell(site_actor* self, const std::string& kind, const std::string& text) { self->send(self->state.metrics, event_line{kind, text}); }

void progress(site_actor* self, const std::string& state, bool flush = false) {
  auto& s = self->state;
  self->send(s.metrics, site_progress{state, static_cast<std::int64_t>(s.devices.size()), s.tokens, true, flush});
}

void send_to(site_actor* self, site_id to, envelope what) {
  const auto link = self->state.links.find(to);
  if (link != self->state.links.end()) self->send(link->second, outbound{to, std::move(what)});
}

/// The end: nothing is sent or written any more.
void end(site_actor* self, int exit_code, const std::string& reason) {
  auto& s = self->state;
  if (s.ended) return;
  s.ended = true;
  progress(self, exit_code == 0 ? "finished" : exit_code == 7 ? "stopped" : "dead", true);
  s.parts->stopped(exit_code, reason);
}

// --- children

link_settings link_settings_of(const site_parts& parts, site_id peer) {
  const auto& links = parts.plan.links;
  return {parts.self, peer, parts.incarnation, parts.run_id,
          {std::chrono::milliseconds(links.heartbeat_ms), std::chrono::milliseconds(links.dead_after_ms)}};
}

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
  d.memory = s.start->memory;
  d.make_learner = s.parts->arithmetic.make_learner;
  d.update = s.parts->arithmetic.update;
  return s.devices[index] = spawn_device(self, s.parts->where, std::move(d));
}

void start_groups(site_actor* self) {
  auto& s = self->state;
  auto& start = *s.start;
  const auto write = [ledger = s.ledger](const std::string& line) { ledger->write(line); };
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
    book.up = settings.codecs.up;
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
  shard_settings shard{s.parts->tokens, s.parts->plan.train.context, static_cast<std::uint64_t>(s.parts->plan.run.seed),
                       std::move(*s.start->leases), {}, {}};
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
  t.sites = plan.sites.size();
  t.learning_rate = [plan](std::uint64_t tokens) { return learning_rate_at(plan, static_cast<std::int64_t>(tokens)); };
  t.evaluation_every_rounds = static_cast<std::uint64_t>(plan.data.evaluation_every_rounds);
  t.checkpoint_every_rounds = static_cast<std::uint64_t>(plan.checkpoint.every_rounds);
  const auto& held_out = s.parts->tokens->held_out;
  const std::int64_t wanted = plan.data.held_out_tokens / plan.train.context;
  t.held_out_rows = std::min<std::int64_t>(wanted, static_cast<std::int64_t>(sample_count(held_out, plan.train.context)));
  auto ids = std::make_shared<std::vector<std::int32_t>>(static_cast<std::size_t>(t.held_out_rows * (t.context + 1)));
  if (t.held_out_rows > 0) batch_reader(held_out, t.context, 0, s.parts->self).fill_in_order(0, *ids);
  t.held_out = std::move(ids);
  std::vector<caf::actor> devices;
  for (const auto& [index, handle] : s.devices) devices.push_back(handle);
  s.trainer = spawn_trainer(self, std::move(t), s.shard, s.groups, std::move(devices), s.metrics);
  for (const auto& group : s.groups) self->send(group, group_wiring{s.trainer, s.shard});
}

/// A child ended. Links, devices and services are begun again within their budgets; a group, the shard or the trainer cannot be: their
/// state is rebuilt from peers and the checkpoint by a new incarnation of the site.
void child_ended(site_actor* self, const caf::exit_msg& m) {
  auto& s = self->state;
  if (s.ended) return;
  const auto is = [&](const caf::actor& a) { return a && a.address() == m.source; };
  const std::string why = caf::to_string(m.reason);
  const auto may_restart = [&](const std::string& what) {
    auto& budget = s.budgets.try_emplace(what, 5, std::chrono::seconds(60)).first->second;
    const bool ok = budget.spend(self->clock().now());
    tell(self, "crash", what + " failed (" + why + ")" + (ok ? "; restarted" : "; over its restart budget"));
    return ok;
  };
  for (auto& [peer, link] : s.links)
    if (is(link)) {
      if (!may_restart("link to " + std::to_string(peer))) return end(self, 1, "the link actor to site " + std::to_string(peer) + " keeps failing");
      s.parts->wire.close(peer, {errc::disconnected, "its link actor failed"});
      return start_link(self, peer);
    }
  for (auto& [index, device] : s.devices)
    if (is(device)) {
      self->send(s.trainer, device_lost{index, why});
      if (may_restart("device " + std::to_string(index))) {
        self->send(s.trainer, device_ready{index, start_device(self, index)});
      } else {
        s.devices.erase(index);
        if (s.devices.empty()) end(self, 1, "no device is left");
      }
      return;
    }
  if (is(s.checkpoint) && may_restart("checkpoint")) {
    s.checkpoint = spawn_checkpoint(self, s.parts, [ledger = s.ledger](const std::string& line) { ledger->write(line); });
    return;
  }
  if (is(s.metrics)) {
    s.metrics = spawn_metrics(self, s.parts);
    return;
  }
  end(self, 1, "an actor of the site failed: " + why);
}

// --- membership

void say_join(site_actor* self) {
  auto& s = self->state;
  message::join join{s.parts->incarnation, {}};
  for (const auto& [group, held] : s.held) join.held.push_back(held);
  send_to(self, coordinator_id, {std::move(join), nullptr});
}

bool is_member(const site_state& s) {
  return std::ranges::any_of(s.view.members, [&](const epoch_member& m) { return m.site == s.parts->self && m.incarnation == s.parts->incarnation; });
}

bool is_joining(const site_state& s) {
  return std::ranges::any_of(s.view.members, [&](const epoch_member& m) { return m.site == s.parts->self && m.joining; });
}

void take_epoch(site_actor* self, const epoch_view& view) {
  auto& s = self->state;
  if (view.number <= s.view.number) return;
  s.view = view;
  s.seals.erase(s.seals.begin(), s.seals.lower_bound(view.number));
  tell(self, "epoch", "epoch " + std::to_string(view.number) + " with " + std::to_string(view.members.size()) + " sites: " + view.reason);
  if (!is_member(s)) return say_join(self);  // left out while we were silent: come back as a joiner
  for (const auto& group : s.groups) self->send(group, enter_epoch{view});
}

void take_group_synced(site_actor* self, const group_synced& m) {
  auto& s = self->state;
  s.group_epochs[m.group] = m.epoch;
  const bool all = s.group_epochs.size() == s.groups.size() &&
                   std::ranges::all_of(s.group_epochs, [&](const auto& entry) { return entry.second == s.view.number; });
  if (!all || !is_joining(s) || s.said_synced == s.view.number) return;
  s.said_synced = s.view.number;
  const message::synced synced{s.view.number};
  for (const auto& member : s.view.members)
    if (member.site != s.parts->self) send_to(self, member.site, {synced, nullptr});
  send_to(self, coordinator_id, {synced, nullptr});
  for (const auto& group : s.groups) self->send(group, peer_is_synced{s.parts->self, s.view.number});
}

/// A group settled for the first time. When all have, what their records say of us decides where leases and residuals stand.
void take_group_started(site_actor* self, const group_started& m) {
  auto& s = self->state;
  s.marks[m.group] = m.mark;
  if (s.marks.size() < s.groups.size() || s.training) return;
  s.training = true;
  recover_leases recover;
  step_number step = s.start->step;
  for (const auto& [group, mark] : s.marks) {
    recover.named.push_back(mark.leases);
    step = std::max(step, mark.step);
  }
  s.step = step;
  s.tokens = step * static_cast<std::uint64_t>(s.parts->plan.train.tokens_per_step);  // those that records name, too
  for (const auto& group : s.groups) self->send(group, restore_book{});
  self->send(s.shard, std::move(recover));
}

void take_seal(site_actor* self, const group_sealed& m) {
  auto& s = self->state;
  auto& answers = s.seals[m.epoch];
  answers[m.held.group] = m.held;
  if (answers.size() < s.groups.size()) return;
  message::sealed sealed{m.epoch, {}};
  for (const auto& [group, held] : answers) sealed.held.push_back(held);
  send_to(self, coordinator_id, {std::move(sealed), nullptr});
}

void take_inbound(site_actor* self, const inbound& m) {
  auto& s = self->state;
  const auto to_group = [&](group_id group) {
    if (group < s.groups.size()) self->send(s.groups[group], group_message{m.from, m.incarnation, m.what});
  };
  const auto& body = m.what.body;
  if (m.from == coordinator_id) {
    if (const auto* seal = std::get_if<message::seal>(&body)) {
      s.seals.erase(seal->epoch);
      for (const auto& group : s.groups) self->send(group, seal_group{seal->epoch});
    } else if (const auto* epoch = std::get_if<message::new_epoch>(&body)) {
      take_epoch(self, epoch->view);
    } else if (const auto* stop = std::get_if<message::stop_run>(&body)) {
      if (stop->finished) end(self, 0, stop->reason);
      else self->send(caf::actor_cast<caf::actor>(self), drain{stop->reason});
    } else if (const auto* joined = std::get_if<message::synced>(&body)) {
      (void)joined;
    }
    return;
  }
  std::visit(
      [&](const auto& x) {
        using type = std::decay_t<decltype(x)>;
        if constexpr (std::is_same_v<type, message::delta>) {
          to_group(x.record.group);
        } else if constexpr (requires { x.group; }) {
          to_group(x.group);
        } else if constexpr (std::is_same_v<type, message::synced>) {
          for (const auto& group : s.groups) self->send(group, peer_is_synced{m.from, x.epoch});
        }
      },
      body);
}

void take_link_change(site_actor* self, const link_changed& m) {
  auto& s = self->state;
  const std::string name = m.peer == coordinator_id ? "the coordinator" : s.parts->plan.sites.at(m.peer).name;
  if (m.up) s.links_up.insert(m.peer);
  else s.links_up.erase(m.peer);
  tell(self, m.up ? "link_up" : "link_down", (m.up ? "link to " : "lost the link to ") + name + (m.up ? "" : ": " + m.reason.message));
  self->send(s.metrics, link_sample{m.peer, m.up, s.parts->wire.counters(m.peer)});
  if (m.up && s.said_synced > 0 && s.said_synced == s.view.number)  // it may not have heard so
    send_to(self, m.peer, {message::synced{s.said_synced}, nullptr});
  if (m.peer == coordinator_id) {
    if (m.up) {
      say_join(self);
      if (s.finished) send_to(self, coordinator_id, {message::leave{"finished", true}, nullptr});
    }
  } else if (m.up) {
    s.suspects.erase(m.peer);
    for (const auto& group : s.groups) self->send(group, m);
  } else {
    s.suspects[m.peer] = {m.peer, m.incarnation, m.reason.message};
    send_to(self, coordinator_id, {s.suspects[m.peer], nullptr});
  }
}

// --- checkpoints

void begin_save(site_actor* self, const save_boundary& at) {
  auto& s = self->state;
  s.last_save = s.last_save || at.last;
  s.saving.emplace();
  s.saving->at = at;
  s.saving->groups.resize(s.groups.size());
  s.saving->books.resize(s.groups.size());
  s.saving->missing = s.groups.size() + 1;
  for (const auto& group : s.groups) self->send(group, save_group{});
  self->send(s.shard, save_cursor{});
}

void end_save(site_actor* self) {
  auto& s = self->state;
  if (--s.saving->missing > 0) return;
  const save_in_progress done = std::move(*s.saving);
  s.saving.reset();
  self->send(s.checkpoint, save_copy{copy_site(*s.parts, *s.start, done.at.step, s.tokens, done.groups, done.books, done.cursor),
                                     done.at.round, done.at.last});
  self->send(s.trainer, boundary_saved{});
}

void take_checkpoint(site_actor* self, const checkpoint_written& m) {
  auto& s = self->state;
  self->send(s.metrics, m);
  if (!m.error.empty()) tell(self, "checkpoint_failed", m.error + "; the one before is kept");
  if (m.last && s.draining && !s.finished) self->send(s.shard, close_leases{false});
}

/// The last word in the ledger: that nothing is outstanding, if so.
void take_leases_closed(site_actor* self, const leases_closed& m) {
  auto& s = self->state;
  if (m.outstanding == 0) write_line(self, ledger::ended(m.for_good ? "finished" : "stopped: " + s.drain_reason));
  if (!m.for_good) {
    send_to(self, coordinator_id, {message::leave{s.drain_reason, false}, nullptr});
    return end(self, 7, s.drain_reason);
  }
  s.finished = true;
  progress(self, "finished", true);
  send_to(self, coordinator_id, {message::leave{"finished", true}, nullptr});
}

/// Who stops finishes the period first. Where no round can end it any more, the others being gone, the last checkpoint has to do: what is
/// outstanding returns at the next start.
void leave_when_stuck(site_actor* self) {
  auto& s = self->state;
  const auto longest = std::chrono::duration_cast<duration>(std::chrono::duration<double>(s.parts->plan.round.deadline_max_seconds));
  if (!s.draining || s.finished || s.last_save || self->clock().now() - s.moved_at < longest + leave_after) return;
  tell(self, "drain", "no round ends the period: stopped without another checkpoint");
  send_to(self, coordinator_id, {message::leave{s.drain_reason, false}, nullptr});
  end(self, 7, s.drain_reason);
}

void tick(site_actor* self) {
  auto& s = self->state;
  self->delayed_send(self, tick_every, site_tick{});
  leave_when_stuck(self);
  const double seconds = std::chrono::duration<double>(tick_every).count();
  send_to(self, coordinator_id, {message::report{s.step, s.tokens, s.loss, static_cast<double>(s.recent_tokens) / seconds}, nullptr});
  if (s.finished) send_to(self, coordinator_id, {message::leave{"finished", true}, nullptr});
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
  s.checkpoint = spawn_checkpoint(self, s.parts, [ledger = s.ledger](const std::string& line) { ledger->write(line); });
  for (const auto& warning : s.start->warnings) tell(self, "warning", warning);
  start_groups(self);
  start_shard(self);
  for (std::uint32_t i = 0; i < s.start->memory->gradients.size(); ++i) start_device(self, i);
  start_trainer(self);
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
  auto start = start_site(*s.parts);
  if (!start) {
    s.ended = true;
    s.parts->stopped(start.error().code == errc::wrong_recipe || start.error().code == errc::wrong_run ? 6 : 5, start.error().message);
    return {[](const site_tick&) {}};
  }
  s.start = std::make_shared<site_start>(std::move(*start));
  auto writer = ledger_writer::open(s.parts->disk, ledger_writer::path_of(s.parts->self), s.parts->self, s.parts->incarnation);
  if (!writer) {
    s.ended = true;
    s.parts->stopped(4, writer.error().message);
    return {[](const site_tick&) {}};
  }
  s.ledger = std::make_shared<shared_ledger>(std::move(*writer));
  write_line(self, ledger::started(static_cast<std::uint32_t>(s.start->shapes.size())));
  if (s.start->resumed) write_line(self, ledger::checkpoint(s.start->checkpoint, "loaded", s.start->checkpoint_hash));
  begin(self);
  return {
      [=](const inbound& m) { take_inbound(self, m); },
      [=](const outbound& m) { send_to(self, m.to, m.what); },
      [=](const link_changed& m) { take_link_change(self, m); },
      [](const link_heard&) {},
      [=](const group_holds& m) {
        self->state.held[m.held.group] = m.held;
        self->state.moved_at = self->clock().now();
      },
      [=](const group_sealed& m) { take_seal(self, m); },
      [=](const group_synced& m) { take_group_synced(self, m); },
      [=](const group_started& m) { take_group_started(self, m); },
      [=](const leases_recovered&) {
        progress(self, "training");
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
      [=](const group_saved& m) {
        if (!self->state.saving) return;
        self->state.saving->groups.at(m.group) = m.group_state;
        self->state.saving->books.at(m.group) = m.book;
        end_save(self);
      },
      [=](const cursor& m) {
        if (!self->state.saving) return;
        self->state.saving->cursor = m.json;
        end_save(self);
      },
      [=](const checkpoint_written& m) { take_checkpoint(self, m); },
      [=](const run_finished&) { self->send(self->state.shard, close_leases{true}); },
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
      [=](const save_now& m) { self->send(self->state.trainer, m); },
      [=](const site_tick&) { tick(self); },
  };
}

}  // namespace

caf::actor spawn_site(caf::actor_system& system, std::shared_ptr<site_parts> parts) { return system.spawn(site, std::move(parts)); }

}  // namespace isthmus::actors
