#include "framework/wire/frame.hpp"

#include "frame.capnp.h"

#include <capnp/message.h>
#include <capnp/serialize.h>

#include <cstring>
#include <variant>

namespace isthmus::wire {

namespace {

void write(schema::Hash::Builder out, const hash128& h) {
  out.setHigh(h.high);
  out.setLow(h.low);
}

capnp::Text::Reader text(const std::string& s) { return {s.c_str(), s.size()}; }

void write(schema::Contributor::Builder out, const contributor& c) {
  ensure(c.leases.size() <= leases_max, "wire: too many leases in a contributor");
  out.setSite(c.site);
  out.setIncarnation(c.incarnation);
  out.setStep(c.step);
  out.setTokens(c.tokens);
  out.setMass(c.mass);
  out.setJudged(static_cast<std::uint8_t>(c.judged));
  out.setUncounted(c.uncounted);
  out.setClipped(c.clipped);
  out.setBarredUntil(c.barred_until);
  out.setRounds(c.rounds);
  out.setStrikes(c.strikes);
  out.setAuditsFailed(c.audits_failed);
  auto leases = out.initLeases(static_cast<unsigned>(c.leases.size()));
  for (unsigned i = 0; i < leases.size(); ++i) {
    leases[i].setShard(c.leases[i].shard);
    leases[i].setBegin(c.leases[i].begin);
    leases[i].setEnd(c.leases[i].end);
  }
}

void write(schema::GroupCut::Builder out, const group_cut& c) {
  out.setGroup(c.group);
  out.setHome(c.home);
  out.setRound(c.round);
  out.setEpoch(c.epoch);
  out.setHolder(c.holder);
  write(out.initRecordHash(), c.record_hash);
  write(out.initAnchorHash(), c.anchor_hash);
}

void write(schema::Member::Builder out, const epoch_member& m) {
  out.setSite(m.site);
  out.setIncarnation(m.incarnation);
  out.setJoining(m.joining);
  out.setSource(m.source);
  out.setStandingBy(m.standing_by);
}

void write(schema::HeldRecord::Builder out, const held_record& h) {
  out.setGroup(h.group);
  out.setRound(h.round);
  out.setEpoch(h.epoch);
  write(out.initRecordHash(), h.record_hash);
  write(out.initAnchorHash(), h.anchor_hash);
}

void write(schema::Audit::Builder out, const audit_result& a) {
  out.setSite(a.site);
  out.setRound(a.round);
  out.setCosine(a.cosine);
  out.setFailed(a.failed);
  out.setBarredUntil(a.barred_until);
}

template <class List, class T>
void write_list(List out, const std::vector<T>& values) {
  for (unsigned i = 0; i < out.size(); ++i) write(out[i], values[i]);
}

template <class T>
unsigned counted(const std::vector<T>& values, std::size_t most) {
  ensure(values.size() <= most, "wire: a list is longer than its cap");
  return static_cast<unsigned>(values.size());
}

void write(schema::RoundRecord::Builder out, const round_record& r) {
  out.setGroup(r.group);
  out.setRound(r.round);
  out.setEpoch(r.epoch);
  out.setHome(r.home);
  write_list(out.initContributors(counted(r.contributors, members_max)), r.contributors);
  out.setTokensTotal(r.tokens_total);
  out.setWeight(r.weight);
  out.setMass(r.mass);
  write(out.initDeltaHash(), r.delta_hash);
  write(out.initAnchorHash(), r.anchor_hash);
  write(out.initPrevious(), r.previous);
  write_list(out.initAudits(counted(r.audits, audits_max)), r.audits);
}

void write(schema::EpochView::Builder out, const epoch_view& v) {
  out.setNumber(v.number);
  write_list(out.initMembers(counted(v.members, members_max)), v.members);
  write_list(out.initCuts(counted(v.cuts, groups_max)), v.cuts);
  out.setReason(text(clipped_utf8(v.reason, text_bytes_max)));
}

void write_place(schema::Place::Builder out, epoch_number epoch, group_id group, round_number round) {
  out.setEpoch(epoch);
  out.setGroup(group);
  out.setRound(round);
}

using body_builder = schema::Frame::Body::Builder;

void write_body(body_builder out, const message::join& m) {
  auto join = out.initJoin();
  join.setIncarnation(m.incarnation);
  write_list(join.initHeld(counted(m.held, groups_max)), m.held);
}

void write_body(body_builder out, const message::beat& m) {
  auto beat = out.initBeat();
  beat.setSequence(m.sequence);
  beat.setEcho(m.echo);
}

void write_body(body_builder out, const message::suspect& m) {
  auto suspect = out.initSuspect();
  suspect.setPeer(m.peer);
  suspect.setIncarnation(m.incarnation);
  suspect.setReason(text(clipped_utf8(m.reason, text_bytes_max)));
}

void write_body(body_builder out, const message::seal& m) { out.setSeal(m.epoch); }

void write_body(body_builder out, const message::sealed& m) {
  auto sealed = out.initSealed();
  sealed.setEpoch(m.epoch);
  write_list(sealed.initHeld(counted(m.held, groups_max)), m.held);
}

void write_body(body_builder out, const message::new_epoch& m) { write(out.initNewEpoch(), m.view); }

void write_body(body_builder out, const message::synced& m) { out.setSynced(m.epoch); }

void write_body(body_builder out, const message::leave& m) {
  auto leave = out.initLeave();
  leave.setReason(text(clipped_utf8(m.reason, text_bytes_max)));
  leave.setFinished(m.finished);
}

void write_body(body_builder out, const message::report& m) {
  auto report = out.initReport();
  report.setStep(m.step);
  report.setTokens(m.tokens);
  report.setLoss(m.loss);
  report.setTokensPerSecond(m.tokens_per_second);
}

void write_body(body_builder out, const message::stop_run& m) {
  auto stop = out.initStopRun();
  stop.setReason(text(clipped_utf8(m.reason, text_bytes_max)));
  stop.setFinished(m.finished);
}

void write_body(body_builder out, const message::contribution& m) {
  auto contribution = out.initContribution();
  write_place(contribution.initPlace(), m.epoch, m.group, m.round);
  contributor from = m.from;
  from.leases = coalesced(std::move(from.leases));
  write(contribution.initFrom(), from);
  write(contribution.initFrameHash(), m.frame_hash);
  write(contribution.initBase(), m.base);
}

void write_body(body_builder out, const message::delta& m) { write(out.initDelta(), m.record); }

void write_body(body_builder out, const message::state_part& m) {
  auto state = out.initStatePart();
  write_place(state.initPlace(), m.epoch, m.group, m.round);
  state.setBegin(m.begin);
  write(state.initRecord(), m.record);
  write_list(state.initWatermarks(counted(m.watermarks, members_max)), m.watermarks);
}

void write_body(body_builder out, const message::stored& m) {
  auto stored = out.initStored();
  write_place(stored.initPlace(), m.epoch, m.group, m.round);
  write(stored.initRecordHash(), m.record_hash);
}

void write_body(body_builder out, const message::commit& m) {
  auto commit = out.initCommit();
  write_place(commit.initPlace(), m.epoch, m.group, m.round);
  write(commit.initRecordHash(), m.record_hash);
}

void write_body(body_builder out, const message::refused& m) {
  auto refused = out.initRefused();
  write_place(refused.initPlace(), m.epoch, m.group, m.round);
  refused.setCode(m.code);
  refused.setReason(text(clipped_utf8(m.reason, text_bytes_max)));
}

void write_body(body_builder out, const message::want_state& m) {
  auto want = out.initWantState();
  want.setEpoch(m.epoch);
  want.setGroup(m.group);
  want.setRound(m.round);
  write(want.initRecordHash(), m.record_hash);
  want.setBegin(m.begin);
  want.setAny(m.any);
}

void write_body(body_builder out, const message::want_record& m) { write_place(out.initWantRecord(), m.epoch, m.group, m.round); }

void write_body(body_builder out, const message::call& m) { write_place(out.initCall(), m.epoch, m.group, m.round); }

void write_body(body_builder out, const message::pass& m) { write_place(out.initPass(), m.epoch, m.group, m.round); }

void write_body(body_builder out, const message::freeze& m) { out.setFreeze(m.epoch); }

void write_body(body_builder out, const message::frozen& m) {
  auto frozen = out.initFrozen();
  frozen.setEpoch(m.epoch);
  write_list(frozen.initHeld(counted(m.held, groups_max)), m.held);
}

void write_body(body_builder out, const message::to_actor& m) {
  ensure(!m.name.empty() && m.name.size() <= name_bytes_max && is_utf8(m.name), "wire: an actor's name is 1 to 128 bytes of UTF-8");
  out.setToActor(text(m.name));
}

/// The stream framing of one segment: a count less one (0), the segment's words, the segment.
std::vector<std::byte> framed(kj::ArrayPtr<const capnp::word> segment) {
  std::vector<std::byte> bytes(8 + segment.size() * sizeof(capnp::word));
  const std::uint32_t table[2] = {0, static_cast<std::uint32_t>(segment.size())};
  std::memcpy(bytes.data(), table, sizeof table);
  std::memcpy(bytes.data() + sizeof table, segment.begin(), segment.size() * sizeof(capnp::word));
  return bytes;
}

}  // namespace

std::vector<std::byte> write_frame(const frame& f) {
  capnp::MallocMessageBuilder builder(256);  // words: most frames fit one segment at once
  auto root = builder.initRoot<schema::Frame>();
  root.setVersion(f.version);
  root.setSite(f.from.site);
  root.setIncarnation(f.from.incarnation);
  root.setRunTag(f.run_tag);
  root.setPayloadBytes(f.payload_bytes);
  if (f.body_in_front > 0)
    root.getBody().setBodyInFront(f.body_in_front);
  else
    std::visit([&](const auto& m) { write_body(root.getBody(), m); }, f.body);

  const auto segments = builder.getSegmentsForOutput();
  if (segments.size() == 1) return framed(segments[0]);
  std::size_t words = 1;
  for (const auto& segment : segments) words += segment.size();
  capnp::MallocMessageBuilder whole(static_cast<unsigned>(words));  // a reader takes one segment only: no far pointers to follow
  whole.setRoot(root.asReader());
  return framed(whole.getSegmentsForOutput()[0]);
}

}  // namespace isthmus::wire
