#pragma once

#include "framework/core/buffer.hpp"
#include "framework/core/hash.hpp"

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

/// What crosses between sites and the coordinator, as plain values. framework/wire turns them into bytes and back;
/// framework/rounds decides on them; actors only carry them.
namespace isthmus {

using site_id = std::uint32_t;
using group_id = std::uint32_t;
using round_number = std::uint64_t;  // per group; 0 is the initial anchor, the first exchange is round 1
using epoch_number = std::uint64_t;  // 1 is the first
using incarnation_number = std::uint64_t;
using step_number = std::uint64_t;  // inner steps of a site over its whole life, 1-based; survives restarts

/// The coordinator's address among the peers.
inline constexpr site_id coordinator_id = 0xffffffffU;

/// A sample range of one site's shard: positions [begin, end) of the shard's keyed sample order. pass = begin / samples.
struct lease {
  std::uint32_t shard = 0;
  std::uint64_t begin = 0, end = 0;
  bool operator==(const lease&) const = default;
};

/// What a home made of a contribution: docs/hostile.md. All but the first two are vetoes: it is in the record, so that its sender learns
/// of it, and in no sum.
enum class verdict : std::uint8_t {
  taken,
  clipped,     // or of less weight than it claims
  unreadable,  // its frame does not decode
  not_finite,  // its frame holds NaN, infinity, or magnitudes that no sum bears
  mass,        // its numbers are not those that its header tells of
  norm,        // far longer than the others', by tokens
  replay,      // the direction of an earlier one of the same site
  copy,        // the direction of another site's
  direction,   // points away from the others'
  barred,      // its site was vetoed too often of late
};
inline constexpr std::uint8_t verdicts = 10;
constexpr bool is_veto(verdict v) { return v > verdict::clipped; }

/// One site's part in a round.
struct contributor {
  site_id site = 0;
  incarnation_number incarnation = 0;
  step_number step = 0;       // reached, inclusive: the site's watermark for this group once committed
  std::uint64_t tokens = 0;   // trained since its last committed contribution to this group: its weight
  std::vector<lease> leases;  // what those tokens were, ascending
  double mass = 0;            // probe of the decoded frame (ledger L2)
  // in records
  std::uint64_t uncounted = 0;  // of its tokens: all where vetoed, some where its weight was capped
  double clipped = 0;           // probe of what was taken off it: mass - clipped is in the sum
  // in records; in watermarks: of the site's last contribution, and the last bar
  verdict judged = verdict::taken;
  round_number barred_until = 0;  // of this group: contributions up to that round are vetoed
  // in watermarks only
  std::uint64_t rounds = 0;         // committed ones that took something of it
  std::uint32_t strikes = 0;        // vetoes in a row
  std::uint32_t audits_failed = 0;  // in a row, since the last bar
  std::uint64_t counted() const { return tokens - uncounted; }
  bool operator==(const contributor&) const = default;
};

/// What came of training again on the samples that a committed contribution names: docs/hostile.md.
struct audit_result {
  site_id site = 0;               // whose contribution
  round_number round = 0;         // it was in that round of this group
  double cosine = 0;              // of what it sent with what its samples made of the same anchor, over the numbers that it sent
  bool failed = false;            // its samples do not make what it sent
  round_number barred_until = 0;  // of the site, where this failure was one too many
  bool operator==(const audit_result&) const = default;
};

/// The round's entry. Chained per group by `previous`.
struct round_record {
  group_id group = 0;
  round_number round = 0;
  epoch_number epoch = 0;
  site_id home = 0;
  std::vector<contributor> contributors;  // in site order
  std::uint64_t tokens_total = 0;    // counted, of all contributions to this group up to and with this round: when it reaches the recipe's
                                     // run.tokens the group is finished, at every site alike; also drives the learning rate
  double weight = 0;                 // tokens / reference tokens, summed: what the sum is divided by
  double mass = 0;                   // probe of the decoded delta, before the division
  hash128 delta_hash, anchor_hash;   // of the delta's bytes; of the anchor after the outer step
  hash128 previous;                  // hash of the record before, zero for round 1
  std::vector<audit_result> audits;  // of earlier rounds' contributions, that the home has finished since its last record
  bool operator==(const round_record&) const = default;
};

/// Where a group stands at the start of an epoch.
struct group_cut {
  group_id group = 0;
  site_id home = 0;
  round_number round = 0;
  epoch_number epoch = 0;  // of the record, 0 for round 0
  hash128 record_hash;     // zero for round 0
  hash128 anchor_hash;
  site_id holder = 0;  // a member that reported this record: who lacks it asks there
  bool operator==(const group_cut&) const = default;
};

struct epoch_member {
  site_id site = 0;
  incarnation_number incarnation = 0;
  bool joining = false;  // copies the anchor from `source` first; neither stores for others nor counts until synced
  site_id source = 0;
  bool standing_by = false;  // a hot spare: stores and holds what all do, but trains nothing, and no round waits for it
  bool operator==(const epoch_member&) const = default;
};

/// A numbered membership view, written to the coordinator's log before anybody hears of it.
struct epoch_view {
  epoch_number number = 0;
  std::vector<epoch_member> members;  // in site order
  std::vector<group_cut> cuts;        // in group order
  std::string reason;                 // plain words
  bool operator==(const epoch_view&) const = default;
};

/// Per group, the last record a site holds (stored, committed or not). A zero anchor_hash: it holds nothing of this group.
struct held_record {
  group_id group = 0;
  round_number round = 0;
  epoch_number epoch = 0;  // of the record: tells whether a later cut made it void; 0 for round 0
  hash128 record_hash, anchor_hash;
  bool operator==(const held_record&) const = default;
};

namespace message {

// site <-> coordinator, control path
/// "I am here"; held is empty without state. A higher incarnation ends the one before, and what that one had stored in memory may be
/// gone: so join.held is no seal of the old incarnation (a wiped or restarted member never votes with amnesia). An epoch may end without
/// ceil(n/2) seals only when every member of it is accounted for, by its seal or by a higher incarnation: then nobody alive can have
/// applied more than the highest record reported by all of them (how a whole run comes back after every process was killed).
struct join {
  incarnation_number incarnation = 0;
  std::vector<held_record> held;
};
struct beat {
  std::uint64_t sequence = 0;
  std::uint64_t echo = 0;
};  // both ways on every link
struct suspect {
  site_id peer = 0;
  incarnation_number incarnation = 0;
  std::string reason;
};
struct seal {
  epoch_number epoch = 0;
};  // coordinator -> member: refuse further records of it
struct sealed {
  epoch_number epoch = 0;
  std::vector<held_record> held;
};
/// coordinator -> a site outside of this epoch, whose members cannot end it: refuse further records, whatever epoch up to this one you
/// are in, and tell what you hold. What you said when you joined may be old.
struct freeze {
  epoch_number epoch = 0;
};
struct frozen {
  epoch_number epoch = 0;
  std::vector<held_record> held;
};
struct new_epoch {
  epoch_view view;
};
struct synced {
  epoch_number epoch = 0;
};  // a joiner to all members and the coordinator
struct leave {
  std::string reason;
  bool finished = false;
};
struct report {
  step_number step = 0;
  std::uint64_t tokens = 0;
  double loss = 0, tokens_per_second = 0;
};  // for status only
struct stop_run {
  std::string reason;
  bool finished = false;
};  // coordinator -> all: finish the step, checkpoint, exit

// site <-> site, bulk path (payload behind the header)
struct contribution {
  epoch_number epoch = 0;
  group_id group = 0;
  round_number round = 0;
  contributor from;
  hash128 frame_hash;
  hash128 base;  // of the record behind which it was formed, zero for round 1: of another history it is void
};
struct delta {
  round_record record;
};                   // payload: the delta's bytes
struct state_part {  // payload: floats of a piece of the state, which is the anchor and behind it the outer momentum
  epoch_number epoch = 0;
  group_id group = 0;
  round_number round = 0;
  std::uint64_t begin = 0;              // the piece's first float, in the state
  round_record record;                  // the record that made this anchor
  std::vector<contributor> watermarks;  // of every site, for this group: step, tokens
                                        // and leases of all its committed rounds, joined
};

// site <-> site, control path
struct stored {
  epoch_number epoch = 0;
  group_id group = 0;
  round_number round = 0;
  hash128 record_hash;
};
struct commit {
  epoch_number epoch = 0;
  group_id group = 0;
  round_number round = 0;
  hash128 record_hash;
};
struct refused {
  epoch_number epoch = 0;
  group_id group = 0;
  round_number round = 0;
  std::uint32_t code = 0;
  std::string reason;
};
/// Who lacks a group -> who has it: a piece of the state behind that record (both zero: the initial one), or of whatever the other has.
/// Answered by state_part; by refused with stale_round, and the other's round, where it has another state.
struct want_state {
  epoch_number epoch = 0;
  group_id group = 0;
  round_number round = 0;
  hash128 record_hash;
  std::uint64_t begin = 0;  // in floats
  bool any = false;
};
struct want_record {
  epoch_number epoch = 0;
  group_id group = 0;
  round_number round = 0;
};  // answered by delta
/// home -> who is missing: this round has its quorum and is about to close, or somebody has waited for it for the grace window. Who still
/// trains for it contributes what it has after the step under way, so that a slow site gives less in each round instead of nothing in
/// time, and sites whose periods began at different times end them together.
struct call {
  epoch_number epoch = 0;
  group_id group = 0;
  round_number round = 0;
};
/// The answer of who has nothing for it: the round need not wait.
struct pass {
  epoch_number epoch = 0;
  group_id group = 0;
  round_number round = 0;
};
/// For users' own actors: delivered to the actor that has registered under that name at the other site; told there when there is none.
struct to_actor {
  std::string name;
};  // payload: theirs

}  // namespace message

using peer_message =
    std::variant<message::join, message::beat, message::suspect, message::seal, message::sealed, message::new_epoch, message::synced,
                 message::leave, message::report, message::stop_run, message::contribution, message::delta, message::state_part,
                 message::stored, message::commit, message::refused, message::want_state, message::want_record, message::to_actor,
                 message::freeze, message::frozen, message::call, message::pass>;

/// A message with its payload (null on the control path).
struct envelope {
  peer_message body;
  shared_bytes payload;
};

}  // namespace isthmus
