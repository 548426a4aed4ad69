#include "framework/core/probe.hpp"
#include "framework/core/rare.hpp"

#include "framework/core/planted.hpp"
#include "framework/rounds/group_state.hpp"
#include "framework/rounds/ledger.hpp"

#include <algorithm>

/// The role of a group's home: collect contributions, close the round, commit at a majority.
namespace isthmus {

namespace {
rare_site closes_early("a home closes its round as soon as it may");
rare_site keeps_no_delta("a home keeps no delta for who lags");
}  // namespace

void parameter_group::state::refuse(site_id to, round_number r, errc code, std::string reason) {
  send(to, message::refused{view.number, s.shape.id, r, static_cast<std::uint32_t>(code), std::move(reason)});
}

void parameter_group::state::on_contribution(site_id from, const message::contribution& m, const shared_bytes& payload, time_point now) {
  if (!at_home()) {
    ++counters.not_home;
    return refuse(from, m.round, errc::not_home, "site " + std::to_string(s.self) + " is not this group's home");
  }
  if (m.from.site != from || member(from)->incarnation != m.from.incarnation) {
    ++counters.stale_incarnation;
    return;
  }
  if (payload == nullptr || hash_bytes(payload->bytes()) != m.frame_hash || m.from.tokens == 0) {
    ++counters.malformed;
    return refuse(from, m.round, errc::hash_mismatch, "the frame does not match its header");
  }
  if (copying || m.round > round + 1 || round < cut.round) {
    if (early.size() < 4 * view.members.size()) early.push_back({from, m.from.incarnation, {m, payload}});
    ++counters.early;
    return;
  }
  if (m.round <= round || m.from.step <= marks.of(from).step || is_finished()) {
    ++counters.stale_round;
    if (m.round == round) deadline.observe(now - last_opened);  // late: the next deadline knows
    return refuse(from, m.round, errc::stale_round, "the round is closed");
  }
  if (m.base != record_hash) {  // its sender knows by now that it is lost
    ++counters.other_history;
    return refuse(from, m.round, errc::stale_round, "it was formed behind a record that is void");
  }
  if (collected.contains(from)) {
    ++counters.duplicate;
    return;
  }
  collect(m.from, payload, now);
}

void parameter_group::state::collect(contributor meta, shared_bytes frame, time_point now) {
  const site_id site = meta.site;
  if (collected.contains(site) || is_finished() || meta.step <= marks.of(site).step) return;
  if (!opened) opened = last_opened = now;
  collected[site] = {std::move(meta), std::move(frame)};
  try_close(now);
}

/// The next round begins without contributions.
void parameter_group::state::reopen() {
  collected.clear();
  opened.reset();
  quorum_at.reset();
}

/// After an epoch change: sender, incarnation, home and round must be what they were.
void parameter_group::state::keep_valid_contributions() {
  if (!at_home()) collected.clear();
  std::erase_if(collected, [&](const auto& e) {
    const epoch_member* m = member(e.first);
    return m == nullptr || m->incarnation != e.second.meta.incarnation;
  });
  quorum_at.reset();
  if (collected.empty()) opened.reset();
}

void parameter_group::state::try_close(time_point now) {
  if (!at_home() || !settled || sealed || pending || is_finished() || collected.empty()) return;
  std::size_t counting = 0, missing = 0;
  for (const epoch_member& m : view.members) {
    if (m.joining && !synced.contains(m.site)) continue;
    ++counting;
    missing += collected.contains(m.site) ? 0 : 1;
  }
  const std::size_t quorum = s.quorum > 0 ? std::min<std::size_t>(s.quorum, counting) : counting / 2 + 1;
  if (collected.size() < quorum) return;
  if (!quorum_at) quorum_at = now;
  const time_point last = deadline.closes_at(*opened, *quorum_at);
  if (missing > 0 && now < last && !closes_early()) return say(group_effect::wake_at{last});
  if (missing == 0) deadline.observe(now - *opened);
  close(now);
}

/// Adds in site order and encodes.
shared_bytes parameter_group::state::reduce(round_record& r, candidate& c) {
  const auto size = anchor->size();
  const codec_pair& codecs = s.codecs.of(round + 1);
  if (spare.sum && (codecs.down_has_residual || round == s.codecs.warm_up_rounds))
    std::fill_n(spare.sum->data(), size, 0.0F);  // an exact codec left zeros
  auto sum = spare.sum ? std::move(spare.sum) : std::make_unique<float_array>(size);
  std::uint64_t tokens = 0;
  for (auto it = collected.begin(); it != collected.end();) {
    if (codecs.up->add_to(s.shape, it->second.frame->bytes(), sum->span())) {
      r.contributors.push_back(it->second.meta);
      tokens += it->second.meta.tokens;
      ++it;
    } else {
      ++counters.malformed;
      refuse(it->first, round + 1, errc::malformed, "the frame cannot be decoded");
      if (it->first == s.self) lose_frame();
      it = collected.erase(it);
    }
  }
  shared_bytes bytes;
  if (tokens > 0) {
    if (residual) std::transform(sum->data(), sum->data() + size, residual->data(), sum->data(), std::plus<float>());
    bytes = make_shared_bytes(codecs.down->encode(s.shape, sum->span()));
    r.tokens_total = record.tokens_total + tokens;
    r.weight = static_cast<double>(tokens) / s.reference_tokens;
    r.delta_hash = hash_bytes(bytes->bytes());
  }
  (bytes && codecs.down_has_residual ? c.residual : spare.sum) = std::move(sum);  // encode left what it did not send
  return bytes;
}

/// Reduces what was collected, takes the outer step into arrays of its own, and offers record and delta to every member.
void parameter_group::state::close(time_point now) {
  round_record r;
  candidate c;
  const auto bytes = reduce(r, c);
  if (!bytes) return;
  r.group = s.shape.id;
  r.round = round + 1;
  r.epoch = view.number;
  r.home = s.self;
  r.previous = record_hash;
  c.anchor = spare.anchor ? std::move(spare.anchor) : std::make_unique<float_array>(anchor->size());
  c.momentum = spare.momentum ? std::move(spare.momentum) : std::make_unique<float_array>(momentum->size());
  const auto done = apply_outer(s.outer, s.shape, *s.codecs.of(r.round).down, bytes->bytes(), r.weight,
                                {anchor->span(), momentum->span(), c.anchor->span(), c.momentum->span()}, s.shape.id);
  ensure(done.has_value(), "parameter_group: our own delta cannot be applied");
  r.mass = done->mass;
  r.anchor_hash = done->anchor_hash;

  pending = delivered{r, hash_record(r), bytes};
  c.stored_at.insert(s.self);
  next = std::move(c);
  ++counters.rounds_closed;
  note(ledger::stored(r));
  for (const epoch_member& m : view.members) send(m.site, message::delta{r}, bytes);
  count_stores(now);
}

/// The record that we made is committed: its arrays become ours, and ours are written next time.
void parameter_group::state::take_candidate() {
  std::swap(anchor, next->anchor);
  std::swap(momentum, next->momentum);
  if (s.codecs.of(pending->record.round).down_has_residual) std::swap(residual, next->residual);
  spare.anchor = std::move(next->anchor);
  spare.momentum = std::move(next->momentum);
  if (next->residual) spare.sum = std::move(next->residual);
  next.reset();
}

void parameter_group::state::return_residual(round_number at) {
  if (!residual) return;
  if (is_planted(planted::lose_home_residual)) return residual.reset();
  note(ledger::aggregator(s.shape.id, at, view.number, "returned", probe(residual->span(), s.shape.id)));
  say(group_effect::residual_returned{std::shared_ptr<const float_array>(std::move(residual))});
}

void parameter_group::state::on_stored(site_id from, const message::stored& m, time_point now) {
  if (m.epoch != view.number || !at_home()) {
    ++counters.stale_epoch;
    return;
  }
  round_number& seen = member_round[from];
  const bool again = m.round <= seen;
  seen = std::max(seen, m.round);
  if (next && pending && m.record_hash == pending->hash) {
    next->stored_at.insert(from);
    count_stores(now);
  } else if (again && m.round <= round) {  // it asks a second time: the commit was lost
    const auto it = kept.find(m.round);
    if (it != kept.end() && it->second.hash == m.record_hash)
      send(from, message::commit{view.number, s.shape.id, m.round, m.record_hash});
    else if (settled && !copying)
      send_state(from);
  }
  trim_kept();
}

void parameter_group::state::count_stores(time_point now) {
  const std::size_t majority = view.members.size() / 2 + (is_planted(planted::commit_below_majority) ? 0 : 1);
  if (next->stored_at.size() < majority) return;
  const delivered d = *pending;
  note(ledger::committed(d.record, {next->stored_at.begin(), next->stored_at.end()}));
  for (const epoch_member& m : view.members) send(m.site, message::commit{view.number, s.shape.id, d.record.round, d.hash});
  commits[d.record.round] = d.hash;
  advance_chain(now);
}

/// Committed deltas are kept until every member has the next round, as far as the home can see; elsewhere the last two are.
void parameter_group::state::trim_kept() {
  std::size_t most = 2;
  if (at_home()) {
    most = s.deltas_kept_max;
    round_number slowest = round;
    for (const epoch_member& m : view.members)
      if (m.site != s.self) slowest = std::min(slowest, member_round[m.site]);
    while (!kept.empty() && kept.begin()->first < slowest) kept.erase(kept.begin());
  }
  if (keeps_no_delta()) most = 0;
  while (kept.size() > most) kept.erase(kept.begin());
}

}  // namespace isthmus
