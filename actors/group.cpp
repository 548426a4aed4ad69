#include "actors/group.hpp"

#include "actors/messages.hpp"
#include "actors/overloaded.hpp"
#include "framework/core/rare.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <deque>

namespace isthmus::actors {

namespace {

rare_site dies_behind_a_store("a group dies between storing a record and saying so", 0.01);

using gated_event = std::variant<group_message, enter_epoch>;

struct group_actor_state {
  group_parts parts;
  group_settings settings;
  caf::actor owner, trainer, shard, auditor, metrics;
  bool started = false;
  bool lent = false;                // the trainer works from our anchor
  std::deque<gated_event> waiting;  // would move the anchor
  held_record told;
  time_point contributed_at{};
  /// Since when the residual holds work that no contribution carries.
  std::optional<time_point> owes_since;
  std::uint64_t bytes_up = 0, bytes_down = 0;
};
using group_actor = caf::stateful_actor<group_actor_state>;

time_point now(group_actor* self) { return self->clock().now(); }
group_id id_of(group_actor* self) { return self->state.settings.shape.id; }

void tell_settled(group_actor* self) {
  const auto& group = *self->state.parts.group;
  self->send(self->state.trainer, group_settled{id_of(self), group.round(), group.tokens_total(), group.finished()});
}

std::string words_of(group_id group, const group_effect::closed_without& e) {
  return fmt::format(
      "round {} of group {} closes without site{} {}: {} contributions are here, {} are enough, and the rest were given {:.1f} s", e.round,
      group, e.missing.size() > 1 ? "s" : "", fmt::join(e.missing, ", "), e.here, e.quorum, to_seconds(e.waited));
}

void tell_auditor(group_actor* self) {
  const auto& s = self->state;
  if (!s.auditor) return;
  const auto& group = *s.parts.group;
  auto copy = std::make_shared<float_array>(group.anchor().size());
  std::ranges::copy(group.anchor(), copy->data());
  self->send(s.auditor, anchor_moved{id_of(self), group.round(), group.tokens_total(), std::move(copy)});
}

/// What was late, or left out, goes with the next period's contribution, soon.
void owe(group_actor* self) {
  auto& s = self->state;
  s.owes_since = now(self);
  self->delayed_send(self, s.settings.deadline.max, group_tick{});
}

void settle(group_actor* self, const group_effect::applied& e) {
  auto& s = self->state;
  if (e.mine) s.parts.write_ledger(e.vetoed ? s.parts.book->discarded(e.record.round) : s.parts.book->counted(e.record.round));
  const contributor mark = s.parts.group->watermarks().of(s.settings.self);
  if (e.vetoed)
    self->send(s.shard, leases_vetoed{id_of(self), mark.step, e.leases});
  else if (mark.step > 0)
    self->send(s.shard, watermark_moved{id_of(self), mark.step});
  tell_auditor(self);
  self->send(s.metrics, round_sample{e.record, e.mine ? s.bytes_up : 0, s.bytes_down, to_seconds(now(self) - s.contributed_at)});
  tell_settled(self);
}

/// Others wait for us.
void answer_call(group_actor* self) {
  auto& s = self->state;
  if (s.lent) return self->send(s.trainer, hand_in{id_of(self), false});
  if (!s.owes_since) return self->send(self, pass_round{});
  s.owes_since = now(self) - s.settings.deadline.max;  // due now
  self->send(self, group_tick{});
}

void perform(group_actor* self, const group_action& action) {
  auto& s = self->state;
  std::visit(
      overloaded{
          [&](const group_effect::send& e) {
            if (std::holds_alternative<message::delta>(e.what.body)) s.bytes_down = e.what.payload->size();
            self->send(s.owner, outbound{e.to, e.what});
          },
          [&](const group_effect::applied& e) { settle(self, e); },
          [&](const group_effect::judged& e) {
            self->send(s.metrics, event_line{"judged", "round " + std::to_string(e.round) + " of group " + std::to_string(id_of(self)) +
                                                           ", the contribution of site " + std::to_string(e.site) + ": " + e.reason});
          },
          [&](const group_effect::closed_without& e) {
            self->send(s.metrics, event_line{"closed_without", words_of(id_of(self), e)});
          },
          [&](const group_effect::audit& e) {
            if (s.auditor) self->send(s.auditor, audit_contribution{id_of(self), e.round, e.meta, e.frame});
          },
          [&](const group_effect::frame_lost& e) {
            s.parts.write_ledger(s.parts.book->lost(e.round));
            owe(self);
          },
          [&](const group_effect::called&) { answer_call(self); },
          [&](const group_effect::rolled_back& e) {
            s.parts.book->roll_back(e.step);
            s.started = false;  // where a site that has not begun stands is told again
            self->send(s.metrics, event_line{"rolled_back", "group " + std::to_string(id_of(self)) + " goes on from round " +
                                                                std::to_string(s.parts.group->round()) +
                                                                ": later rounds are void, their samples return"});
            self->send(s.shard, leases_voided{id_of(self), e.step, e.leases});
          },
          [&](const group_effect::residual_returned& e) {
            s.parts.write_ledger(s.parts.book->add(s.parts.group->round(), e.values->span()));
          },
          [&](const group_effect::ledger_line& e) {
            s.parts.write_ledger(e.json);
            if (e.json.starts_with("{\"record\"") && dies_behind_a_store()) throw contract_error("a rehearsed crash behind a record");
          },
          [&](const group_effect::diverged& e) {
            self->send(s.metrics,
                       event_line{"diverged", "group " + std::to_string(id_of(self)) + " round " + std::to_string(e.round) + ": anchor " +
                                                  e.found.hex() + " instead of " + e.expected.hex() + "; copying it from a peer"});
          },
          [&](const group_effect::unsettled&) { self->send(s.trainer, group_unsettled{id_of(self)}); },
          [&](const group_effect::settled& e) {
            const contributor mark = s.parts.group->watermarks().of(s.settings.self);
            if (mark.step > 0) self->send(s.shard, watermark_moved{id_of(self), mark.step});
            if (!s.started) {
              s.started = true;
              self->send(s.owner, group_started{id_of(self), mark});
            }
            tell_settled(self);
            tell_auditor(self);
            self->send(s.owner, group_synced{id_of(self), e.epoch});
          },
          [&](const group_effect::wake_at& e) { self->delayed_send(self, std::max(e.when - now(self), duration{}), group_tick{}); },
      },
      action);
}

void perform(group_actor* self, const group_actions& actions) {
  for (const auto& action : actions) perform(self, action);
  if (const held_record held = self->state.parts.group->held(); held != self->state.told) {
    self->state.told = held;
    self->send(self->state.owner, group_holds{held});
  }
}

/// Could this event move the anchor?
bool moves_anchor(const group_actor_state& s, const gated_event& event) {
  const round_number round = s.parts.group->round();
  if (const auto* epoch = std::get_if<enter_epoch>(&event)) {
    for (const auto& member : epoch->view.members)
      if (member.site == s.settings.self && member.joining) return true;
    for (const auto& cut : epoch->view.cuts)
      if (cut.group == s.settings.shape.id && cut.round != round) return true;
    return false;
  }
  const auto& body = std::get<group_message>(event).what.body;
  if (const auto* m = std::get_if<message::commit>(&body)) return m->round > round;
  if (const auto* m = std::get_if<message::stored>(&body)) return m->round > round;
  if (const auto* m = std::get_if<message::state_part>(&body)) return m->round > round || !s.parts.group->is_settled();
  return false;
}

void take(group_actor* self, const gated_event& event) {
  auto& s = self->state;
  if (s.lent && moves_anchor(s, event)) {
    if (s.waiting.empty()) self->send(s.trainer, hand_in{id_of(self), true});
    s.waiting.push_back(event);
    return;
  }
  if (const auto* epoch = std::get_if<enter_epoch>(&event)) {
    perform(self, s.parts.group->enter_epoch(epoch->view, now(self)));
    return;
  }
  const auto& m = std::get<group_message>(event);
  if (std::holds_alternative<message::delta>(m.what.body)) s.bytes_down = m.what.payload->size();
  perform(self, s.parts.group->receive(m.from, m.incarnation, m.what, now(self)));
}

expected<void> keep_late(group_actor* self, std::span<const float> working, const train_result& what) {
  auto& s = self->state;
  auto line = s.parts.book->keep_late(s.parts.group->round() + 1, s.parts.group->anchor(), working, what.step, what.tokens, what.leases);
  if (!line) return line.failure();
  s.parts.write_ledger(*line);
  owe(self);
  return {};
}

expected<void> send_contribution(group_actor* self, std::span<const float> working, const train_result& what) {
  auto& s = self->state;
  auto& group = *s.parts.group;
  auto formed = s.parts.book->form(group.round() + 1, group.anchor(), working, what.step, what.tokens, what.leases);
  if (!formed) return formed.failure();
  s.bytes_up = formed->frame->size();
  s.contributed_at = now(self);
  s.owes_since.reset();
  s.parts.write_ledger(formed->ledger_line);
  perform(self, group.local_contribution(group.round() + 1, formed->frame, formed->meta, now(self)));
  return {};
}

/// Wrong arithmetic, from this device or these samples: nothing of it may reach the others, and this process is not trusted with more. Its
/// samples return when the next one starts.
[[noreturn]] void veto(group_actor* self, const train_result& what, const error& why) {
  auto& s = self->state;
  const std::string text = "group " + std::to_string(id_of(self)) + ": " + why.message;
  s.parts.write_ledger(s.parts.book->vetoed(s.parts.group->round() + 1, what.step, what.tokens));
  self->send(s.metrics, event_line{"vetoed", text + "; the site begins again from its last checkpoint"});
  throw contract_error(text);
}

/// The trainer hands back what it made of our anchor.
void take_back(group_actor* self, const train_result& what, bool keep) {
  auto& s = self->state;
  auto& group = *s.parts.group;
  s.lent = false;
  if (what.tokens > 0) {
    const auto working = std::as_const(*s.parts.memory->weights)
                             .span()
                             .subspan(static_cast<std::size_t>(s.settings.shape.offset), static_cast<std::size_t>(s.settings.shape.size));
    const bool late = keep || !s.waiting.empty() || group.finished() || !group.is_settled() || group.has_frame_in_flight();
    if (auto ok = late ? keep_late(self, working, what) : send_contribution(self, working, what); !ok) veto(self, what, ok.error());
  }
  auto waiting = std::move(s.waiting);
  s.waiting.clear();
  const round_number before = group.round();
  for (const auto& event : waiting) take(self, event);
  // What had been held back was of an older epoch, say, and moved nothing: the next period begins from where we stand.
  if (group.round() == before && group.is_settled() && !group.has_frame_in_flight()) tell_settled(self);
}

/// The next period waits until every group has moved on. Where a quorum needs everybody, two sites that were late in one group each, and
/// not in the same, would wait for each other for ever: so what is owed for long goes by itself.
void pay_what_is_owed(group_actor* self) {
  auto& s = self->state;
  const auto& group = *s.parts.group;
  if (!s.owes_since || now(self) < *s.owes_since + s.settings.deadline.max || s.lent) return;
  if (!group.is_settled() || group.finished() || group.has_frame_in_flight()) return;
  self->send(s.trainer, group_unsettled{id_of(self)});  // a period that began before this is decided would be late here again
  if (auto sent = send_contribution(self, group.anchor(), {}); !sent) throw contract_error(sent.error().message);
}

caf::behavior group_behaviour(group_actor* self, std::shared_ptr<group_actor_state> given) {
  end_with_reason(self);
  self->state = std::move(*given);
  return {
      [=](const group_wiring& m) {
        self->state.trainer = m.trainer;
        self->state.shard = m.shard;
        self->state.auditor = m.auditor;
        if (m.auditor && self->state.parts.group->is_settled()) tell_auditor(self);
        perform(self, group_actions{});
      },
      [=](const enter_epoch& m) { take(self, m); },
      [=](const group_message& m) { take(self, m); },
      [=](const group_tick&) {
        perform(self, self->state.parts.group->tick(now(self)));
        pay_what_is_owed(self);
      },
      [=](const contribution_audited& m) { self->state.parts.group->audited(m.site, m.round, m.cosine); },
      [=](const pass_round&) { perform(self, self->state.parts.group->pass(now(self))); },
      [=](const seal_group& m) {
        auto& group = *self->state.parts.group;
        const auto held = m.outside ? group.freeze(m.epoch) : group.seal(m.epoch);
        if (held) self->send(self->state.owner, group_sealed{m.epoch, *held, m.outside});
      },
      [=](const link_changed& m) { perform(self, self->state.parts.group->peer_up(m.peer, now(self))); },
      [=](const peer_is_synced& m) { perform(self, self->state.parts.group->peer_synced(m.site, m.epoch, now(self))); },
      [=](const load_anchor&) {
        auto& s = self->state;
        const auto anchor = s.parts.group->anchor();
        std::ranges::copy(anchor, s.parts.memory->weights->span().begin() + s.settings.shape.offset);
        s.lent = true;
        return anchor_loaded{id_of(self), s.parts.group->round()};
      },
      [=](const metrics_restarted& m) { self->state.metrics = m.handle; },
      [=](const contribute& m) { take_back(self, m.what, m.keep); },
      [=](const restore_book&) {
        auto& s = self->state;
        const step_number mark = s.parts.group->watermarks().of(s.settings.self).step;
        if (s.parts.saved_book || mark > 0)
          s.parts.write_ledger(s.parts.book->restore(s.parts.saved_book ? &*s.parts.saved_book : nullptr, mark, s.parts.group->round()));
        s.parts.saved_book.reset();
      },
      [=](const save_group&) {
        auto& s = self->state;
        return group_saved{id_of(self), std::make_shared<const group_snapshot>(s.parts.group->snapshot()),
                           std::make_shared<const contribution_snapshot>(s.parts.book->snapshot(s.parts.group->round()))};
      },
  };
}

}  // namespace

caf::actor spawn_group(caf::event_based_actor* owner, tier where, group_parts parts, group_settings settings, caf::actor metrics) {
  auto state = std::make_shared<group_actor_state>();
  state->parts = std::move(parts);
  state->settings = std::move(settings);
  state->owner = caf::actor_cast<caf::actor>(owner);
  state->metrics = std::move(metrics);
  return where == tier::real ? owner->spawn<caf::linked + caf::detached>(group_behaviour, std::move(state))
                             : owner->spawn<caf::linked>(group_behaviour, std::move(state));
}

}  // namespace isthmus::actors
