#include "framework/rounds/parameter_group.hpp"

#include "framework/core/planted.hpp"
#include "framework/core/probe.hpp"
#include "framework/rounds/group_state.hpp"
#include "framework/rounds/ledger.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace isthmus {

namespace {

constexpr std::size_t early_messages_max = 64;

}  // namespace

parameter_group::state::state(group_settings settings)
    : s(std::move(settings)),
      anchor(std::make_unique<float_array>(static_cast<std::size_t>(s.shape.size))),
      momentum(std::make_unique<float_array>(s.outer.has_momentum() ? static_cast<std::size_t>(s.shape.size) : 0)),
      deadline(s.deadline),
      watch(s.guarding, s.shape.id, s.reference_tokens) {
  ensure(s.shape.size > 0, "parameter_group: an empty group");
  for (const auto one : {round_number{1}, s.codecs.warm_up_rounds + 1})
    ensure(s.codecs.of(one).up && s.codecs.of(one).down, "parameter_group: needs both codecs");
  ensure(s.reference_tokens > 0, "parameter_group: reference_tokens must be positive");
  record.group = s.shape.id;
}

parameter_group::parameter_group(group_settings settings, std::span<const float> anchor)
    : state_(std::make_unique<state>(std::move(settings))) {
  ensure(anchor.size() == state_->anchor->size(), "parameter_group: the anchor's size is not the group's");
  std::copy(anchor.begin(), anchor.end(), state_->anchor->data());
  state_->anchor_hash = hash_floats(anchor);
}

parameter_group::parameter_group(group_settings settings, const group_snapshot& saved)
    : parameter_group(std::move(settings), saved.anchor) {
  state& g = *state_;
  ensure(saved.momentum.size() == g.momentum->size(), "parameter_group: the saved momentum's size is not the group's");
  std::copy(saved.momentum.begin(), saved.momentum.end(), g.momentum->data());
  g.round = saved.round;
  g.record = saved.record;
  g.record.group = g.s.shape.id;
  if (g.round > 0) g.record_hash = hash_record(g.record);
  g.marks = watermark_table(saved.watermarks);
}

parameter_group::~parameter_group() = default;
parameter_group::parameter_group(parameter_group&&) noexcept = default;

group_actions parameter_group::enter_epoch(const epoch_view& view, time_point now) {
  if (view.number > state_->view.number) state_->enter(view, now);
  return state_->take();
}

void parameter_group::state::enter(const epoch_view& next_view, time_point now) {
  const auto me = std::find_if(next_view.members.begin(), next_view.members.end(),
                               [&](const epoch_member& m) { return m.site == s.self && m.incarnation == s.incarnation; });
  const auto its_cut =
      std::find_if(next_view.cuts.begin(), next_view.cuts.end(), [&](const group_cut& c) { return c.group == s.shape.id; });
  if (me == next_view.members.end() || its_cut == next_view.cuts.end()) return;

  const bool was_home = at_home();
  const site_id old_home = cut.home;
  const bool first = view.number == 0;
  view = next_view;
  cut = *its_cut;
  sealed = false;
  synced = std::move(synced_early[view.number]);
  synced_early.erase(synced_early.begin(), synced_early.upper_bound(view.number));
  commits.clear();
  member_round.clear();
  note(ledger::entered(view.number, s.shape.id, round));
  auto of_this_epoch = std::exchange(early, {});  // not before we stand at its cut: they would lead beyond it, to where no holder is
  settle_pending_by_cut(now);
  early = std::move(of_this_epoch);
  ahead.clear();
  if (was_home && !at_home()) return_residual(round);
  if (!at_home()) spare = {};
  if (!at_home()) audits.clear();
  keep_valid_contributions();
  reset_poll(now);
  if (holds_cut() && !diverged) {
    copying = false;
    copy.reset();
    settle(now);
  } else {
    start_catching_up(*me);
  }
  if (in_flight && !copying && (first || old_home != cut.home || at_home())) send_frame(now);
  replay_early(now);
  try_close(now);
}

/// The cut decides what becomes of the record that we stored: committed, or void.
void parameter_group::state::settle_pending_by_cut(time_point now) {
  if (!pending) return;
  if (pending->record.round == cut.round && pending->hash == cut.record_hash) {
    ahead.clear();
    advance_chain(now);  // the cut is known to be committed
    return;
  }
  if (pending->record.round >= cut.round) {
    note(ledger::voided(pending->record, view.number));
    ++counters.records_void;
  }
  pending.reset();
  next.reset();
}

bool parameter_group::state::holds_cut() const {
  if (round != cut.round) return false;
  return round == 0 ? anchor_hash == cut.anchor_hash : record_hash == cut.record_hash;
}

void parameter_group::state::start_catching_up(const epoch_member& me) {
  unsettle();
  pending.reset();
  next.reset();
  if (me.joining || diverged || round >= cut.round) {  // what we have is not this history, or may not be
    copying = true;
    const round_number coming = copy && copy->pieces_here() > 0 ? copy->wanted()->round : 0;  // the initial state has no record
    const bool of_use = coming > 0 && coming < cut.round && coming + 2 >= cut.round;
    fetch_state(of_use ? *copy->wanted() : name_of_cut(), cut.holder != s.self ? cut.holder : me.source);
  } else {
    copying = false;
    copy.reset();
    send(cut.holder, message::want_record{view.number, s.shape.id, round + 1});
  }
}

void parameter_group::state::settle(time_point now) {
  const bool news = !settled;
  settled = true;
  say(group_effect::settled{round, view.number, is_finished()});
  if (news) reset_poll(now);
}

void parameter_group::state::unsettle() {
  if (!settled) return;
  settled = false;
  say(group_effect::unsettled{});
}

void parameter_group::state::replay_early(time_point now) {
  const auto again = std::exchange(early, {});
  for (const early_message& e : again) receive(e.from, e.incarnation, e.what, now);
}

const epoch_member* parameter_group::state::member(site_id site) const {
  for (const epoch_member& m : view.members)
    if (m.site == site) return &m;
  return nullptr;
}

void parameter_group::state::send(site_id to, peer_message body, shared_bytes payload) {
  if (to == s.self) return;
  say(group_effect::send{to, {std::move(body), std::move(payload)}});
}

group_actions parameter_group::receive(site_id from, incarnation_number incarnation, const envelope& what, time_point now) {
  state_->receive(from, incarnation, what, now);
  return state_->take();
}

void parameter_group::state::receive(site_id from, incarnation_number incarnation, const envelope& what, time_point now) {
  const auto epoch_of = [](const auto& m) -> epoch_number {
    if constexpr (requires { m.epoch; })
      return m.epoch;
    else if constexpr (requires { m.record.epoch; })
      return m.record.epoch;
    else
      return 0;
  };
  if (std::visit(epoch_of, what.body) > view.number) {
    if (early.size() < early_messages_max) early.push_back({from, incarnation, what});
    ++counters.early;
    return;
  }
  const epoch_member* sender = member(from);
  if (sender == nullptr || sender->incarnation != incarnation) {
    ++counters.stale_incarnation;
    return;
  }
  if (const auto* in = std::get_if<message::contribution>(&what.body))
    on_contribution(from, *in, what.payload, now);
  else if (const auto* d = std::get_if<message::delta>(&what.body))
    on_delta(from, *d, what.payload, now);
  else if (const auto* st = std::get_if<message::stored>(&what.body))
    on_stored(from, *st, now);
  else if (const auto* cm = std::get_if<message::commit>(&what.body))
    on_commit(*cm, now);
  else if (const auto* r = std::get_if<message::refused>(&what.body))
    on_refused(from, *r, now);
  else if (const auto* p = std::get_if<message::state_part>(&what.body))
    on_state_part(from, *p, what.payload, now);
  else if (const auto* c = std::get_if<message::call>(&what.body))
    on_call(from, *c);
  else if (const auto* none = std::get_if<message::pass>(&what.body))
    on_pass(from, *none, now);
  else if (const auto* w = std::get_if<message::want_record>(&what.body))
    on_want_record(from, *w, now);
  else if (const auto* ws = std::get_if<message::want_state>(&what.body))
    on_want_state(from, *ws, now);
  else
    ++counters.malformed;
}

bool parameter_group::may_move_anchor(const envelope& what) const {
  const state& g = *state_;
  if (const auto* m = std::get_if<message::commit>(&what.body)) return m->round > g.round;
  if (const auto* m = std::get_if<message::delta>(&what.body))
    return m->record.round > g.round && (m->record.round > g.round + 1 || g.round < g.cut.round || !g.commits.empty() || !g.ahead.empty());
  if (std::holds_alternative<message::stored>(what.body)) return g.next && g.next->stored_at.size() + 1 >= g.view.members.size() / 2 + 1;
  if (std::holds_alternative<message::contribution>(what.body)) return g.view.members.size() == 1;
  return std::holds_alternative<message::state_part>(what.body);
}

group_actions parameter_group::tick(time_point now) {
  state& g = *state_;
  if (g.view.number > 0) {
    g.try_close(now);
    if (now >= g.next_poll) g.poll(now);
    if (g.served && now - g.served->asked > 32 * g.s.retry) g.served.reset();
  }
  return g.take();
}

std::optional<held_record> parameter_group::seal(epoch_number number) {
  if (number != state_->view.number || number == 0) return std::nullopt;
  state_->sealed = true;
  return held();
}

std::optional<held_record> parameter_group::freeze(epoch_number epoch) {
  if (state_->view.number > epoch) return std::nullopt;
  state_->sealed = true;
  return held();
}

group_actions parameter_group::peer_synced(site_id site, epoch_number number, time_point now) {
  state& g = *state_;
  if (number == g.view.number && g.member(site) != nullptr) {
    g.synced.insert(site);
    g.try_close(now);
  } else if (number > g.view.number) {  // it was quicker than our own entry into that epoch
    g.synced_early[number].insert(site);
  }
  return g.take();
}

group_actions parameter_group::peer_up(site_id site, time_point now) {
  state& g = *state_;
  if (g.view.number > 0 && g.member(site) != nullptr) {
    g.reset_poll(now);
    g.poll(now);
  }
  return g.take();
}

void parameter_group::audited(site_id site, round_number round, double cosine) {
  state_->audits.finish(state_->s.auditing, site, round, cosine);
}

held_record parameter_group::held() const {
  const state& g = *state_;
  if (g.diverged) return {g.s.shape.id, 0, 0, {}, {}};
  if (g.pending && !is_planted(planted::forget_stored_record))
    return {g.s.shape.id, g.pending->record.round, g.pending->record.epoch, g.pending->hash, g.pending->record.anchor_hash};
  return {g.s.shape.id, g.round, g.record.epoch, g.record_hash, g.anchor_hash};
}

group_snapshot parameter_group::snapshot() const {
  const state& g = *state_;
  ensure(!g.copying, "parameter_group: a snapshot while the state is being copied");
  const auto values = [](const float_array& a) { return std::vector<float>(a.data(), a.data() + a.size()); };
  return {g.round, g.record, values(*g.anchor), values(*g.momentum), g.marks.entries()};
}

bool parameter_group::is_settled() const { return state_->settled && state_->view.number > 0; }
bool parameter_group::is_home() const { return state_->at_home(); }
bool parameter_group::finished() const { return state_->is_finished(); }
bool parameter_group::has_frame_in_flight() const { return state_->in_flight.has_value(); }
round_number parameter_group::round() const { return state_->round; }
epoch_number parameter_group::epoch() const { return state_->view.number; }
std::uint64_t parameter_group::tokens_total() const { return state_->record.tokens_total; }
std::span<const float> parameter_group::anchor() const { return state_->anchor->span(); }
std::span<const float> parameter_group::momentum() const { return state_->momentum->span(); }
const round_record& parameter_group::record() const { return state_->record; }
const watermark_table& parameter_group::watermarks() const { return state_->marks; }
const group_counters& parameter_group::counters() const { return state_->counters; }

}  // namespace isthmus
