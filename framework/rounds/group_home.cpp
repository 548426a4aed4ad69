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
constexpr double weight_max = 0x1p20;
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
  if (static_cast<double>(m.from.tokens) > weight_max * s.reference_tokens) {  // form_contribution never makes such a one
    ++counters.malformed;
    return refuse(from, m.round, errc::out_of_range, "it claims more than 2^20 times the reference tokens");
  }
  if (copying || m.round > round + 1 || round < cut.round) {
    if (early.size() < 4 * view.members.size()) early.push_back({from, m.from.incarnation, {m, payload}});
    ++counters.early;
    return;
  }
  if (m.round <= round || m.from.step <= marks.of(from).step || is_finished()) {
    ++counters.stale_round;
    if (m.round == round) deadline.observe(now - last_quorum);  // late: the next deadline knows
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
  meta = {site, meta.incarnation, meta.step, meta.tokens, std::move(meta.leases), meta.mass};  // what the home says of it, the home says
  if (collected.contains(site) || is_finished() || meta.step <= marks.of(site).step) return;
  if (!opened) opened = now;
  collected[site] = {std::move(meta), std::move(frame)};
  try_close(now);
}

/// The next round begins without contributions.
void parameter_group::state::reopen() {
  collected.clear();
  opened.reset();
  quorum_at.reset();
  called = false;
  passed.clear();
}

/// After an epoch change: sender, incarnation, home and round must be what they were.
void parameter_group::state::keep_valid_contributions() {
  if (!at_home()) collected.clear();
  std::erase_if(collected, [&](const auto& e) {
    const epoch_member* m = member(e.first);
    return m == nullptr || m->incarnation != e.second.meta.incarnation;
  });
  if (collected.empty()) opened.reset();
  quorum_at.reset();
  called = false;
  passed.clear();
}

void parameter_group::state::try_close(time_point now) {
  if (!at_home() || !settled || sealed || pending || is_finished() || collected.empty()) return;
  std::size_t counting = 0;
  std::vector<site_id> missing;
  for (const epoch_member& m : view.members) {
    const bool here = collected.contains(m.site);
    if ((m.joining && !synced.contains(m.site)) || (!here && (m.standing_by || passed.contains(m.site)))) continue;
    ++counting;
    if (!here) missing.push_back(m.site);
  }
  const std::size_t quorum = s.quorum > 0 ? std::min<std::size_t>(s.quorum, counting) : counting / 2 + 1;
  const bool enough = collected.size() >= quorum;
  if (const time_point patience = *opened + s.deadline.grace; s.calls && !called) {
    if (!enough && now < patience) return say(group_effect::wake_at{patience});
    called = true;
    for (const site_id site : missing) call(site);
  }
  if (!enough) return;
  if (!quorum_at) quorum_at = last_quorum = now;
  const time_point last = deadline.closes_at(*quorum_at);
  if (!missing.empty() && now < last && !closes_early()) return say(group_effect::wake_at{last});
  if (missing.empty()) deadline.observe(now - *quorum_at);
  tell_missing(std::move(missing), quorum, now);
  close(now);
}

/// Once: a site that is slow in each round is told of in the first.
void parameter_group::state::tell_missing(std::vector<site_id> missing, std::size_t quorum, time_point now) {
  if (!missing.empty() && missing != told_missing)
    say(group_effect::closed_without{round + 1, missing, collected.size(), quorum, now - *quorum_at});
  told_missing = std::move(missing);
}

void parameter_group::state::call(site_id site) {
  if (site == s.self) say(group_effect::called{round + 1});
  send(site, message::call{view.number, s.shape.id, round + 1});
}

void parameter_group::state::on_pass(site_id from, const message::pass& m, time_point now) {
  if (!at_home() || m.epoch != view.number || m.round != round + 1) return;
  passed.insert(from);
  try_close(now);
}

/// Sum of the decoded frames, in site order, of as many tokens as it gives. What does not decode is vetoed.
std::uint64_t parameter_group::state::add_all(round_record& r, candidate& c, std::span<float> sum) {
  std::uint64_t tokens = 0;
  for (const auto& [site, got] : collected) {
    judged_contribution one{got.meta, nullptr, {}, {}, {}};
    if (auto ok = s.codecs.of(round + 1).up->add_to(s.shape, got.frame->bytes(), sum); !ok) veto_unreadable(one, ok.error());
    if (!one.reason.empty()) c.reasons.push_back({site, one.reason});
    r.contributors.push_back(std::move(one.meta));
    tokens += r.contributors.back().counted();
  }
  return tokens;
}

/// The same where each is looked at by itself first.
std::uint64_t parameter_group::state::add_judged(round_record& r, candidate& c, std::span<float> sum) {
  for (const auto& [site, got] : collected) {
    judged_contribution one{got.meta, std::make_unique<float_array>(anchor->size()), {}, {}, {}};
    if (auto ok = s.codecs.of(round + 1).up->add_to(s.shape, got.frame->bytes(), one.values->span()); !ok) {
      one.values = nullptr;
      veto_unreadable(one, ok.error());
    } else {
      one.size = measure(std::as_const(*one.values).span(), s.shape.id);
      if (s.guarding.similarity_veto > 0) one.sketch = sketch_of(std::as_const(*one.values).span(), s.shape.id);
    }
    c.judged.push_back(std::move(one));
  }
  watch.judge(c.judged, marks, round + 1);
  std::uint64_t tokens = 0;
  for (const auto& one : c.judged) tokens += one.meta.counted();
  if (tokens > 0) watch.add(c.judged, s.guarding.aggregate == aggregate_kind::centred_clipping ? last_mean() : std::vector<float>{}, sum);
  for (auto& one : c.judged) {
    r.contributors.push_back(one.meta);
    if (is_veto(one.meta.judged) || one.meta.uncounted > 0) c.reasons.push_back({one.meta.site, one.reason});
    one.values.reset();
  }
  return tokens;
}

void parameter_group::state::veto_unreadable(judged_contribution& one, const error& why) {
  ++counters.malformed;
  const bool numbers = why.code == errc::not_finite || why.code == errc::out_of_range;
  watch.veto(one, numbers ? verdict::not_finite : verdict::unreadable, why.message, marks, round + 1);
}

/// Of what was taken.
void parameter_group::state::draw_audits(const round_record& r, candidate& c) const {
  for (const contributor& from : r.contributors)
    if (!is_veto(from.judged) && from.site != s.self && is_audited(s.auditing, s.shape.id, r.round, from.site))
      c.audits.push_back({r.round, from, collected.at(from.site).frame});
}

/// The last round's delta by weight, where its bytes are still kept: what centred clipping begins from.
std::vector<float> parameter_group::state::last_mean() const {
  const auto at = kept.find(round);
  const bool sparse = s.codecs.of(round + 1).down->payload_bytes(s.shape) == 0;  // the union of all unions would soon be everything
  if (at == kept.end() || sparse) return {};
  std::vector<float> mean(anchor->size());
  const auto& last = at->second;
  if (!s.codecs.of(round).down->add_to(s.shape, last.bytes->bytes(), mean)) return {};
  const auto weight = static_cast<float>(last.record.weight);
  for (float& x : mean) x /= weight;
  return mean;
}

/// Adds in site order and encodes. Where every contribution is vetoed the round moves nothing, but is one: all senders learn of it.
shared_bytes parameter_group::state::reduce(round_record& r, candidate& c) {
  const auto size = anchor->size();
  const codec_pair& codecs = s.codecs.of(round + 1);
  if (spare.sum && (codecs.down_has_residual || round == s.codecs.warm_up_rounds))
    std::fill_n(spare.sum->data(), size, 0.0F);  // an exact codec left zeros
  auto sum = spare.sum ? std::move(spare.sum) : std::make_unique<float_array>(size);
  const std::uint64_t tokens = s.guarding.active() || s.auditing.rate > 0 ? add_judged(r, c, sum->span()) : add_all(r, c, sum->span());
  if (residual) std::transform(sum->data(), sum->data() + size, residual->data(), sum->data(), std::plus<float>());
  auto bytes = make_shared_bytes(codecs.down->encode(s.shape, sum->span()));
  r.tokens_total = record.tokens_total + tokens;
  r.weight = tokens > 0 ? static_cast<double>(tokens) / s.reference_tokens : 1;
  r.delta_hash = hash_bytes(bytes->bytes());
  (codecs.down_has_residual ? c.residual : spare.sum) = std::move(sum);  // encode left what it did not send
  return bytes;
}

/// Reduces what was collected, takes the outer step into arrays of its own, and offers record and delta to every member.
void parameter_group::state::close(time_point now) {
  round_record r;
  candidate c;
  const auto bytes = reduce(r, c);
  r.group = s.shape.id;
  r.round = round + 1;
  r.epoch = view.number;
  r.home = s.self;
  r.previous = record_hash;
  for (auto& told : audits.write_into(r, marks, s.guarding, s.auditing)) c.reasons.push_back(std::move(told));
  draw_audits(r, c);
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
  watch.remember(next->judged);
  audits.written(pending->record);
  for (auto& drawn : next->audits) {
    audits.begin(drawn.meta.site, drawn.round);
    say(std::move(drawn));
  }
  for (auto& [site, reason] : next->reasons) say(group_effect::judged{pending->record.round, site, std::move(reason)});
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
      offer_state(from, m.round, now);
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
