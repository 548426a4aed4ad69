#include "framework/core/probe.hpp"
#include "framework/core/rare.hpp"

#include "framework/core/planted.hpp"
#include "framework/rounds/group_state.hpp"
#include "framework/rounds/ledger.hpp"

#include <algorithm>

/// The role that every site has: store records, apply what is committed, keep a contribution until its fate is known.
namespace isthmus {

namespace {

rare_site asks_at_once("a member asks again at once");

}  // namespace

// --- our contribution

group_actions parameter_group::local_contribution(round_number round, shared_bytes frame, contributor meta, time_point now) {
  state& g = *state_;
  ensure(!g.in_flight, "parameter_group: a contribution while the last one's fate is open");
  ensure(frame != nullptr && meta.site == g.s.self && meta.incarnation == g.s.incarnation, "parameter_group: not our contribution");
  g.in_flight = state::frame_in_flight{round, std::move(frame), std::move(meta), g.record_hash};
  if (round != g.round + 1 || g.copying || g.is_finished())
    g.lose_frame();
  else if (g.view.number > 0)
    g.send_frame(now);
  return g.take();
}

void parameter_group::state::send_frame(time_point now) {
  if (at_home()) {
    if (in_flight->round == round + 1 && !copying) collect(in_flight->meta, in_flight->frame, now);
    return;
  }
  send(cut.home,
       message::contribution{view.number, s.shape.id, in_flight->round, in_flight->meta, hash_bytes(in_flight->frame->bytes()),
                             in_flight->base},
       in_flight->frame);
  reset_poll(now);
}

void parameter_group::state::lose_frame() {
  say(group_effect::frame_lost{in_flight->round, in_flight->frame, in_flight->meta});
  in_flight.reset();
}

// --- records

void parameter_group::state::on_delta(site_id from, const message::delta& m, const shared_bytes& payload, time_point now) {
  const round_record& r = m.record;
  if (payload == nullptr || r.group != s.shape.id || hash_bytes(payload->bytes()) != r.delta_hash) {
    ++counters.malformed;
    return;
  }
  const hash128 hash = hash_record(r);
  if (!copying && (r.round <= round || (pending && pending->hash == hash))) {
    ++counters.duplicate;
    if (pending && pending->hash == hash && !sealed) send(from, message::stored{view.number, s.shape.id, r.round, hash});
    return;
  }
  const bool of_this_epoch = r.epoch == view.number && r.home == cut.home && r.round > cut.round;
  const bool up_to_the_cut = r.epoch < view.number && r.round <= cut.round;
  if (!of_this_epoch && !up_to_the_cut && !is_planted(planted::apply_stale_epoch)) {
    ++counters.stale_epoch;
    return;
  }
  ahead[r.round] = {r, hash, payload};
  advance_chain(now);
}

void parameter_group::state::on_commit(const message::commit& m, time_point now) {
  if (m.epoch != view.number) {
    ++counters.stale_epoch;
  } else if (m.round <= round && !copying) {
    ++counters.duplicate;
  } else {
    commits[m.round] = m.record_hash;
    advance_chain(now);
  }
}

/// Applies all that is known to be committed, in order, and stores the record behind it.
void parameter_group::state::advance_chain(time_point now) {
  if (copying) return;
  bool moved = false;
  for (;;) {
    bool forked = false;
    const auto d = next_committed(forked);
    if (forked) {
      unsettle();
      copying = true;
      fetch_state({}, cut.holder);
      reset_poll(now);
      return;
    }
    if (d) {
      if (!apply(*d, now)) return;
      moved_on(*d, now);
      moved = true;
    } else if (!store_next(now)) {
      break;
    }
  }
  if (!moved) return;
  if (!settled && round >= cut.round) settle(now);
  if (!settled) send(cut.holder, message::want_record{view.number, s.shape.id, round + 1});
  replay_early(now);
}

std::optional<parameter_group::state::delivered> parameter_group::state::next_committed(bool& forked) const {
  std::map<round_number, hash128> known = commits;  // committed rounds and the hashes of their records
  if (cut.round > round) known[cut.round] = cut.record_hash;
  for (const auto& [number, d] : ahead)  // a home makes a record only when the one before is committed
    if (d.record.epoch == view.number && number > cut.round + 1) known[number - 1] = d.record.previous;
  if (known.empty()) return std::nullopt;
  std::optional<delivered> found;
  for (round_number q = known.rbegin()->first; q > round; --q) {
    const auto it = known.find(q);
    if (it == known.end()) continue;
    const auto a = ahead.find(q);
    if (q == round + 1 && pending && pending->hash == it->second)
      found = *pending;
    else if (a != ahead.end() && a->second.hash == it->second)
      found = a->second;
    else
      found.reset();
    if (found) known[q - 1] = found->record.previous;
    if (q > round + 1) found.reset();
  }
  const auto ours = known.find(round);
  forked = found && ours != known.end() && ours->second != record_hash;
  return forked ? std::nullopt : found;
}

bool parameter_group::state::store_next(time_point now) {
  if ((sealed && !is_planted(planted::store_while_sealed)) || pending || round < cut.round) return false;
  const auto it = ahead.find(round + 1);
  if (it == ahead.end()) return false;
  if (it->second.record.epoch != view.number && !is_planted(planted::apply_stale_epoch)) return false;
  if (it->second.record.previous != record_hash) {
    ++counters.malformed;
    ahead.erase(it);
    return false;
  }
  pending = std::move(it->second);
  ahead.erase(it);
  note(ledger::stored(pending->record));
  send(cut.home, message::stored{view.number, s.shape.id, pending->record.round, pending->hash});
  if (is_planted(planted::apply_before_commit)) commits[pending->record.round] = pending->hash;
  reset_poll(now);
  return true;
}

bool parameter_group::state::apply(const delivered& d, time_point now) {
  if (next && pending && pending->hash == d.hash) {  // we made it: the result is there
    take_candidate();
    if (residual) note(ledger::aggregator(s.shape.id, d.record.round, d.record.epoch, "kept", probe(residual->span(), s.shape.id)));
    if (!s.codecs.of(d.record.round + 1).down_has_residual) return_residual(d.record.round);  // the warm-up is over
    return true;
  }
  const auto done = apply_outer(s.outer, s.shape, *s.codecs.of(d.record.round).down, d.bytes->bytes(), d.record.weight,
                                {anchor->span(), momentum->span()});
  const hash128 found = done ? done->anchor_hash : hash128{};
  if (found == d.record.anchor_hash) return true;
  divergence(d.record, found, now);
  return false;
}

void parameter_group::state::moved_on(const delivered& d, time_point now) {
  round = d.record.round;
  record = d.record;
  record_hash = d.hash;
  anchor_hash = d.record.anchor_hash;
  marks.apply(record);
  if (pending && pending->record.round <= round) pending.reset();
  next.reset();
  kept[round] = d;
  copied_at.reset();
  trim_kept();
  std::erase_if(ahead, [&](const auto& e) { return e.first <= round; });
  std::erase_if(commits, [&](const auto& e) { return e.first <= round; });
  reopen();
  ++counters.rounds_applied;
  reset_poll(now);
  report_applied();
}

/// Tells the owner that the anchor stands at `record`, and what became of our contribution.
void parameter_group::state::report_applied() {
  const bool decided = in_flight && in_flight->round <= round;
  const contributor mark = marks.of(s.self);
  const bool named = decided && mark.incarnation == s.incarnation && mark.step >= in_flight->meta.step;
  const bool mine = named && !is_planted(planted::contribute_again);
  note(ledger::applied(record, mine));
  const bool vetoed = mine && is_veto(mark.judged);
  say(group_effect::applied{record, mine, is_finished(), vetoed, vetoed ? in_flight->meta.leases : std::vector<lease>{}});
  if (mine)
    in_flight.reset();
  else if (decided)
    lose_frame();
}

void parameter_group::state::divergence(const round_record& r, const hash128& found, time_point now) {
  ++counters.divergences;
  note(ledger::diverged(s.shape.id, r.round, r.anchor_hash, found));
  say(group_effect::diverged{r.round, r.anchor_hash, found});
  unsettle();
  diverged = copying = true;
  pending.reset();
  next.reset();
  if (copied_at) {  // what came behind the anchor, and has no hash of its own, was wrong: another copy may be no better, so not at once
    ++copies_failed;
    copy.reset();
  } else {
    fetch_state({}, cut.home);
  }
  reset_poll(now);
}

// --- asking and being asked

void parameter_group::state::reset_poll(time_point now) {
  poll_wait = asks_at_once() ? std::chrono::milliseconds(1) : s.retry;
  next_poll = now + poll_wait;
  say(group_effect::wake_at{next_poll});
}

/// Small questions that repair what was lost on the way; each wait is twice the one before.
void parameter_group::state::poll(time_point now) {
  ++counters.polls;
  poll_wait = std::min(poll_wait * 2, s.retry * 16);
  next_poll = now + poll_wait;
  say(group_effect::wake_at{next_poll});
  if (copy && !copying && (!copy->wanted() || copy->wanted()->round <= round)) copy.reset();
  if (copy)
    ask(copy->again());
  else if (copying)
    fetch_state({}, cut.home);
  if (copying) return;
  if (round < cut.round)
    send(cut.holder, message::want_record{view.number, s.shape.id, round + 1});
  else if (pending)
    send(cut.home, message::stored{view.number, s.shape.id, pending->record.round, pending->hash});
  else if (!is_finished())
    send(cut.home, message::want_record{view.number, s.shape.id, round + 1});
}

void parameter_group::state::on_want_record(site_id from, const message::want_record& m, time_point now) {
  if (copying) return;
  if (m.round <= round) {
    const auto it = kept.find(m.round);
    if (it == kept.end()) return offer_state(from, m.round, now);
    send(from, message::delta{it->second.record}, it->second.bytes);
    send(from, message::commit{view.number, s.shape.id, m.round, it->second.hash});
  } else if (m.round == round + 1 && pending) {
    send(from, message::delta{pending->record}, pending->bytes);
  } else if (m.round == round + 1 && at_home() && settled && !is_finished() && !collected.contains(from)) {
    refuse(from, m.round, errc::not_found, "no contribution of this site to this round has come");
    if (called && !passed.contains(from)) call(from);
  }
}

void parameter_group::state::on_call(site_id from, const message::call& m) {
  if (from != cut.home || m.epoch != view.number || m.round != round + 1 || in_flight || copying) return;
  say(group_effect::called{m.round});
}

group_actions parameter_group::pass(time_point now) {
  state& g = *state_;
  if (g.in_flight || g.view.number == 0) return g.take();
  const message::pass said{g.view.number, g.s.shape.id, g.round + 1};
  if (g.at_home())
    g.on_pass(g.s.self, said, now);
  else
    g.send(g.cut.home, said);
  return g.take();
}

void parameter_group::state::on_refused(site_id from, const message::refused& m, time_point now) {
  if (copy && m.epoch == view.number && static_cast<errc>(m.code) == errc::stale_round) ask(copy->not_there(from));
  if (from != cut.home || m.epoch != view.number || !in_flight || in_flight->round != m.round) return;
  switch (static_cast<errc>(m.code)) {
    case errc::not_found: return send_frame(now);
    default: return reset_poll(now);  // its round is closed: the record is on its way
  }
}

}  // namespace isthmus
