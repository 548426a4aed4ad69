#include "framework/wire/frame.hpp"

#include "frame.capnp.h"

#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include <cmath>
#include <cstring>
#include <optional>

namespace isthmus::wire {

namespace {

/// Reads fields and remembers the first one that is not what it must be; what is read after that does not matter.
class field_reader {
public:
  const std::optional<error>& problem() const { return problem_; }

  void require(bool holds, errc code, const char* field, const char* allowed) {
    if (!holds && !problem_) problem_ = error{code, std::string("frame: ") + field + " " + allowed};
  }

  double finite(double value, const char* field) {
    require(std::isfinite(value), errc::not_finite, field, "is not a finite number");
    return value;
  }

  std::string text(capnp::Text::Reader t, std::size_t bytes_max, const char* field) {
    require(t.size() <= bytes_max, errc::too_large, field, "is longer than allowed");
    if (problem_) return {};
    std::string value(t.begin(), t.size());
    require(is_utf8(value), errc::malformed, field, "is not UTF-8 without NUL");
    return value;
  }

  hash128 hash(schema::Hash::Reader h) { return {h.getHigh(), h.getLow()}; }

  contributor one(schema::Contributor::Reader in) {
    contributor c;
    c.site = in.getSite();
    c.incarnation = in.getIncarnation();
    c.step = in.getStep();
    c.tokens = in.getTokens();
    c.mass = finite(in.getMass(), "a contributor's mass");
    require(in.getJudged() < verdicts, errc::out_of_range, "a contributor's verdict", "is none that this version knows");
    c.judged = static_cast<verdict>(in.getJudged());
    c.uncounted = in.getUncounted();
    require(c.uncounted <= c.tokens, errc::out_of_range, "a contributor's uncounted tokens", "are more than its tokens");
    c.clipped = finite(in.getClipped(), "a contributor's clipped mass");
    c.barred_until = in.getBarredUntil();
    c.rounds = in.getRounds();
    c.strikes = in.getStrikes();
    c.audits_failed = in.getAuditsFailed();
    const auto leases = in.getLeases();
    require(leases.size() <= leases_max, errc::too_large, "a contributor's leases", "are more than 65536");
    if (problem_) return c;
    c.leases.reserve(leases.size());
    for (const auto l : leases) {
      c.leases.push_back({l.getShard(), l.getBegin(), l.getEnd()});
      require(c.leases.back().begin <= c.leases.back().end, errc::out_of_range, "a lease", "ends before it begins");
    }
    return c;
  }

  group_cut one(schema::GroupCut::Reader in) {
    return {in.getGroup(), in.getHome(), in.getRound(), in.getEpoch(), hash(in.getRecordHash()), hash(in.getAnchorHash()), in.getHolder()};
  }

  epoch_member one(schema::Member::Reader in) {
    return {in.getSite(), in.getIncarnation(), in.getJoining(), in.getSource(), in.getStandingBy()};
  }

  held_record one(schema::HeldRecord::Reader in) {
    return {in.getGroup(), in.getRound(), in.getEpoch(), hash(in.getRecordHash()), hash(in.getAnchorHash())};
  }

  audit_result one(schema::Audit::Reader in) {
    const double cosine = finite(in.getCosine(), "an audit's cosine");
    require(cosine >= -1 && cosine <= 1, errc::out_of_range, "an audit's cosine", "is beyond -1 to 1");
    return {in.getSite(), in.getRound(), cosine, in.getFailed(), in.getBarredUntil()};
  }

  round_record one(schema::RoundRecord::Reader in) {
    round_record r;
    r.group = in.getGroup();
    r.round = in.getRound();
    r.epoch = in.getEpoch();
    r.home = in.getHome();
    r.contributors = list<contributor>(in.getContributors(), members_max, "a record's contributors");
    ascending(r.contributors, &contributor::site, "a record's contributors");
    r.tokens_total = in.getTokensTotal();
    r.weight = finite(in.getWeight(), "a record's weight");
    require(r.weight >= 0, errc::out_of_range, "a record's weight", "is negative");
    r.mass = finite(in.getMass(), "a record's mass");
    r.delta_hash = hash(in.getDeltaHash());
    r.anchor_hash = hash(in.getAnchorHash());
    r.previous = hash(in.getPrevious());
    r.audits = list<audit_result>(in.getAudits(), audits_max, "a record's audits");
    return r;
  }

  epoch_view one(schema::EpochView::Reader in) {
    epoch_view v;
    v.number = epoch(in.getNumber());
    v.members = list<epoch_member>(in.getMembers(), members_max, "an epoch's members");
    ascending(v.members, &epoch_member::site, "an epoch's members");
    v.cuts = list<group_cut>(in.getCuts(), groups_max, "an epoch's cuts");
    ascending(v.cuts, &group_cut::group, "an epoch's cuts");
    v.reason = text(in.getReason(), text_bytes_max, "an epoch's reason");
    return v;
  }

  epoch_number epoch(std::uint64_t number) {
    require(number > 0, errc::out_of_range, "an epoch", "is 0; the first is 1");
    return number;
  }

  round_number round(std::uint64_t number) {
    require(number > 0, errc::out_of_range, "a round", "is 0; the first exchange is 1");
    return number;
  }

  template <class T, class List>
  std::vector<T> list(List in, std::size_t most, const char* field) {
    require(in.size() <= most, errc::too_large, field, "are more than allowed");
    std::vector<T> values;
    if (problem_) return values;
    values.reserve(in.size());
    for (const auto element : in) {
      values.push_back(one(element));
      if (problem_) break;
    }
    return values;
  }

  template <class T, class Key>
  void ascending(const std::vector<T>& values, Key T::*key, const char* field) {
    for (std::size_t i = 1; i < values.size(); ++i)
      require(values[i - 1].*key < values[i].*key, errc::malformed, field, "do not ascend, or one comes twice");
  }

private:
  std::optional<error> problem_;
};

/// Sets (epoch, group, round) of a message that names a round which was exchanged.
template <class Message>
void read_place(field_reader& f, schema::Place::Reader in, Message& out) {
  out.epoch = f.epoch(in.getEpoch());
  out.group = in.getGroup();
  out.round = f.round(in.getRound());
}

message::state_part read_state_part(field_reader& f, schema::Frame::Body::StatePart::Reader in) {
  message::state_part m;
  const auto place = in.getPlace();
  m.epoch = f.epoch(place.getEpoch());
  m.group = place.getGroup();
  m.round = place.getRound();  // 0: the initial anchor
  m.begin = in.getBegin();
  m.record = f.one(in.getRecord());
  m.watermarks = f.list<contributor>(in.getWatermarks(), members_max, "a state part's watermarks");
  return m;
}

peer_message read_exchange(field_reader& f, schema::Frame::Body::Reader body) {
  using which = schema::Frame::Body::Which;
  switch (body.which()) {
    case which::CONTRIBUTION: {
      message::contribution m;
      read_place(f, body.getContribution().getPlace(), m);
      m.from = f.one(body.getContribution().getFrom());
      m.frame_hash = f.hash(body.getContribution().getFrameHash());
      m.base = f.hash(body.getContribution().getBase());
      return m;
    }
    case which::DELTA: {
      message::delta m{f.one(body.getDelta())};
      f.epoch(m.record.epoch);
      f.round(m.record.round);
      return m;
    }
    case which::STATE_PART: return read_state_part(f, body.getStatePart());
    case which::STORED: {
      message::stored m;
      read_place(f, body.getStored().getPlace(), m);
      m.record_hash = f.hash(body.getStored().getRecordHash());
      return m;
    }
    case which::COMMIT: {
      message::commit m;
      read_place(f, body.getCommit().getPlace(), m);
      m.record_hash = f.hash(body.getCommit().getRecordHash());
      return m;
    }
    case which::REFUSED: {
      const auto in = body.getRefused();
      const auto place = in.getPlace();
      f.require(in.getCode() <= static_cast<std::uint32_t>(errc::ledger_violated), errc::out_of_range, "a refusal's code", "is unknown");
      return message::refused{place.getEpoch(), place.getGroup(), place.getRound(), in.getCode(),
                              f.text(in.getReason(), text_bytes_max, "a refusal's reason")};
    }
    case which::WANT_STATE: {
      const auto in = body.getWantState();
      return message::want_state{in.getEpoch(), in.getGroup(), in.getRound(), f.hash(in.getRecordHash()), in.getBegin(), in.getAny()};
    }
    case which::WANT_RECORD: {
      const auto place = body.getWantRecord();
      return message::want_record{place.getEpoch(), place.getGroup(), f.round(place.getRound())};
    }
    case which::CALL: {
      const auto place = body.getCall();
      return message::call{place.getEpoch(), place.getGroup(), f.round(place.getRound())};
    }
    case which::PASS: {
      const auto place = body.getPass();
      return message::pass{place.getEpoch(), place.getGroup(), f.round(place.getRound())};
    }
    case which::TO_ACTOR: {
      message::to_actor m{f.text(body.getToActor(), name_bytes_max, "an actor's name")};
      f.require(!m.name.empty(), errc::malformed, "an actor's name", "is empty");
      return m;
    }
    default: break;
  }
  f.require(false, errc::unsupported, "its body", "is of a kind that this version does not know");
  return message::beat{};
}

peer_message read_message(field_reader& f, schema::Frame::Body::Reader body) {
  using which = schema::Frame::Body::Which;
  switch (body.which()) {
    case which::JOIN:
      return message::join{body.getJoin().getIncarnation(), f.list<held_record>(body.getJoin().getHeld(), groups_max, "held records")};
    case which::BEAT: return message::beat{body.getBeat().getSequence(), body.getBeat().getEcho()};
    case which::SUSPECT: {
      const auto in = body.getSuspect();
      return message::suspect{in.getPeer(), in.getIncarnation(), f.text(in.getReason(), text_bytes_max, "a suspicion's reason")};
    }
    case which::SEAL: return message::seal{f.epoch(body.getSeal())};
    case which::SEALED: {
      const auto in = body.getSealed();
      return message::sealed{f.epoch(in.getEpoch()), f.list<held_record>(in.getHeld(), groups_max, "held records")};
    }
    case which::FREEZE: return message::freeze{f.epoch(body.getFreeze())};
    case which::FROZEN: {
      const auto in = body.getFrozen();
      return message::frozen{f.epoch(in.getEpoch()), f.list<held_record>(in.getHeld(), groups_max, "held records")};
    }
    case which::NEW_EPOCH: return message::new_epoch{f.one(body.getNewEpoch())};
    case which::SYNCED: return message::synced{f.epoch(body.getSynced())};
    case which::LEAVE: {
      const auto in = body.getLeave();
      return message::leave{f.text(in.getReason(), text_bytes_max, "a leave's reason"), in.getFinished()};
    }
    case which::REPORT: {
      const auto in = body.getReport();
      return message::report{in.getStep(), in.getTokens(), f.finite(in.getLoss(), "a report's loss"),
                             f.finite(in.getTokensPerSecond(), "a report's tokens per second")};
    }
    case which::STOP_RUN: {
      const auto in = body.getStopRun();
      return message::stop_run{f.text(in.getReason(), text_bytes_max, "a stop's reason"), in.getFinished()};
    }
    default: return read_exchange(f, body);
  }
}

/// The one segment of a frame, copied to aligned memory: a stranger's pointer promises no alignment.
expected<std::vector<capnp::word>> single_segment(std::span<const std::byte> bytes) {
  if (bytes.size() < 8) return fail(errc::truncated, "frame: " + std::to_string(bytes.size()) + " bytes, shorter than its 8-byte prefix");
  std::uint32_t table[2];
  std::memcpy(table, bytes.data(), sizeof table);
  if (table[0] != 0) return fail(errc::malformed, "frame: more than one segment; a frame has exactly one");
  const std::uint64_t length = 8 + 8 * static_cast<std::uint64_t>(table[1]);
  if (table[1] == 0) return fail(errc::malformed, "frame: its segment is empty");
  if (bytes.size() < length)
    return fail(errc::truncated, "frame: " + std::to_string(bytes.size()) + " of the " + std::to_string(length) + " bytes it names");
  if (bytes.size() > length)
    return fail(errc::malformed, "frame: " + std::to_string(bytes.size() - length) + " bytes follow the end it names");
  std::vector<capnp::word> words(table[1]);
  std::memcpy(words.data(), bytes.data() + 8, length - 8);
  return words;
}

expected<frame> read_words(kj::ArrayPtr<const capnp::word> words) {
  const kj::ArrayPtr<const capnp::word> segments[] = {words};
  capnp::ReaderOptions options;
  options.traversalLimitInWords = 2 * words.size() + 64;  // each object once, with room; pointers shared to amplify run out
  options.nestingLimit = 8;
  capnp::SegmentArrayMessageReader reader(kj::arrayPtr(segments, 1), options);
  const auto root = reader.getRoot<schema::Frame>();
  frame f;
  f.version = root.getVersion();
  f.run_tag = root.getRunTag();
  f.from = {root.getSite(), root.getIncarnation()};
  f.payload_bytes = root.getPayloadBytes();
  // A body of another version need not make sense to us: the caller tells versions and runs apart first.
  if (f.version != version) return f;
  if (root.getBody().which() == schema::Frame::Body::Which::BODY_IN_FRONT) {
    f.body_in_front = root.getBody().getBodyInFront();
    if (f.body_in_front == 0) return fail(errc::malformed, "frame: it has no body");
    return f;
  }
  field_reader fields;
  f.body = read_message(fields, root.getBody());
  if (fields.problem()) return unexpected{*fields.problem()};
  return f;
}

}  // namespace

expected<frame> read_frame(std::span<const std::byte> bytes) {
  const auto words = single_segment(bytes);
  if (!words) return words.failure();
  try {
    return read_words(kj::arrayPtr(words->data(), words->size()));
  } catch (const kj::Exception& e) {
    return fail(errc::malformed, std::string("frame: no valid Cap'n Proto message: ") + e.getDescription().cStr());
  }
}

}  // namespace isthmus::wire
