#include "framework/core/planted.hpp"
#include "framework/rounds/group_state.hpp"
#include "framework/rounds/ledger.hpp"

#include <algorithm>
#include <cstring>

/// A whole state from others, and for others: pieces of the anchor and the outer momentum behind one record.
namespace isthmus {

namespace {

constexpr int served_for = 16;  // retries: so long a state that somebody copies is kept while another would do as well

}  // namespace

// --- from others

void parameter_group::state::fetch_state(const std::optional<state_name>& wanted, site_id first) {
  std::vector<site_id> holders;
  for (const epoch_member& m : view.members)
    if (m.site != s.self && (!m.joining || m.site == first)) holders.push_back(m.site);
  std::stable_partition(holders.begin(), holders.end(), [&](site_id site) { return site == first; });
  if (!copy) copy = std::make_unique<state_copy>(anchor->size() + momentum->size(), s.piece_floats, copies_failed);
  ask(copy->fetch(wanted, holders));
}

void parameter_group::state::ask(const state_copy::questions& questions) {
  for (const auto& q : questions)
    send(q.to, message::want_state{view.number, s.shape.id, q.what.round, q.what.record_hash, q.begin, q.any});
}

void parameter_group::state::on_state_part(site_id from, const message::state_part& m, const shared_bytes& payload, time_point now) {
  const bool of_use = copying ? m.round >= cut.round || (copy && copy->wanted() && copy->wanted()->round == m.round) : m.round > round;
  const bool waits = copying && !copy;  // to ask again, since what came last was wrong: this is of then
  if (m.epoch != view.number || !of_use || waits || (m.round > 0 && m.record.round != m.round)) {
    ++counters.stale_round;
    return;
  }
  if (!copying && !copy) fetch_state(state_name{m.round, hash_record(m.record)}, from);  // we lag too far behind, and are told so
  switch (copy->take(from, m, payload)) {
    case state_copy::taken::useless: ++counters.malformed; break;
    case state_copy::taken::whole: return install(now);
    case state_copy::taken::kept: reset_poll(now); break;
  }
  ask(copy->ask());
}

void parameter_group::state::install(time_point now) {
  const message::state_part& p = copy->facts();
  const auto anchor_part = copy->values().span().first(anchor->size());
  const hash128 hash = p.round == 0 ? hash128{} : hash_record(p.record);
  const hash128 expected = p.round == 0 ? cut.anchor_hash : p.record.anchor_hash;
  const bool fits_cut = p.round != cut.round || hash == cut.record_hash;
  if (!fits_cut || hash_floats(anchor_part) != expected) {
    ++counters.malformed;
    ++copies_failed;
    return ask(copy->discard());
  }
  const auto held = std::move(copy);
  const state_copy& given = *held;
  const auto overwrite = [&](float_array& values, std::size_t begin) {
    if (values.size() > 0) std::memcpy(values.data(), given.values().data() + begin, values.size() * sizeof(float));
  };
  if (hash != record_hash) {  // what we kept as home belongs to rounds that are void
    return_residual(p.round);
    watch.forget();
    audits.clear();
  }
  overwrite(*anchor, 0);
  if (!is_planted(planted::copy_without_momentum)) overwrite(*momentum, anchor->size());
  const message::state_part& facts = given.facts();
  round = facts.round;
  record = facts.record;
  record.group = s.shape.id;
  record_hash = hash;
  anchor_hash = expected;
  copied_at = round;
  const contributor before = marks.of(s.self);
  marks = watermark_table(facts.watermarks);
  const contributor after = marks.of(s.self);
  diverged = copying = false;
  pending.reset();
  next.reset();
  kept.clear();
  reopen();
  std::erase_if(ahead, [&](const auto& e) { return e.first <= round; });
  std::erase_if(commits, [&](const auto& e) { return e.first <= round; });
  ++counters.state_copies;
  note(ledger::copied(record, given.first_source(), view.number));
  if (auto gone = without(before.leases, after.leases); !gone.empty()) {
    ++counters.rollbacks;
    say(group_effect::rolled_back{after.step, std::move(gone)});
  }
  report_applied();
  if (in_flight && in_flight->base != record_hash) lose_frame();  // formed from an anchor that is void
  if (round >= cut.round) settle(now);
  if (in_flight && settled) send_frame(now);
  advance_chain(now);
  if (!settled && !copying) send(cut.holder, message::want_record{view.number, s.shape.id, round + 1});
  reset_poll(now);
  replay_early(now);
}

// --- for others

/// A copy of what we have.
void parameter_group::state::serve(time_point now) {
  if (served && served->name == name()) return;
  served = std::make_unique<served_state>(name(), record, marks.entries(), anchor->size() + momentum->size(), now);
  std::copy(anchor->data(), anchor->data() + anchor->size(), served->values.data());
  std::copy(momentum->data(), momentum->data() + momentum->size(), served->values.data() + anchor->size());
}

void parameter_group::state::send_piece(site_id to, std::uint64_t begin) {
  if (begin >= served->values.size()) return;
  const auto piece = served->values.span().subspan(begin);
  send(to, message::state_part{view.number, s.shape.id, served->name.round, begin, served->record, served->marks},
       make_shared_bytes(std::as_bytes(piece.first(std::min(piece.size(), s.piece_floats)))));
}

void parameter_group::state::on_want_state(site_id from, const message::want_state& m, time_point now) {
  if (!settled || copying) return;
  const state_name asked{m.round, m.record_hash};
  const bool have = served && served->name == asked;
  if (m.any) {
    const bool in_use = served && served->name.round >= cut.round && now - served->asked < served_for * s.retry;
    if (!in_use) serve(now);
  } else if (!have && asked == name()) {
    serve(now);
  } else if (!have) {
    return send(from, message::refused{view.number, s.shape.id, round, static_cast<std::uint32_t>(errc::stale_round),
                                       "the state of another round stands here"});
  }
  served->asked = now;
  send_piece(from, m.begin);
}

void parameter_group::state::offer_state(site_id to, round_number at_least, time_point now) {
  if (!settled || copying) return;
  if (!served || served->name.round < at_least) {
    serve(now);
    served->asked = now;
  }
  send_piece(to, 0);
}

}  // namespace isthmus
