#pragma once

#include "framework/codecs/codec.hpp"
#include "framework/core/clock.hpp"
#include "framework/optim/outer.hpp"
#include "framework/rounds/audit.hpp"
#include "framework/rounds/deadline.hpp"
#include "framework/rounds/guard.hpp"
#include "framework/rounds/messages.hpp"
#include "framework/rounds/watermarks.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace isthmus {

/// What a parameter group is told once, from the recipe.
struct group_settings {
  site_id self = 0;
  incarnation_number incarnation = 0;
  group_shape shape;
  codec_plan codecs;
  outer_rule outer;
  double reference_tokens = 1;    // unit of weights
  std::uint64_t tokens_goal = 0;  // the group is finished at the first record whose tokens_total reaches it; 0: never
  std::uint32_t quorum = 0;       // contributions that let a round close; 0: a majority of the counting members
  deadline_settings deadline;
  bool calls = true;                         // asks for what is missing; else every contribution is of a whole period
  duration retry = std::chrono::seconds(2);  // what we wait for is asked for again after this, then after twice as long, ...
  guard_settings guarding;                   // what a home makes of contributions that may be wrong
  audit_settings auditing;
  std::uint32_t deltas_kept_max = 4;    // committed deltas kept for members that lag; further behind: state is copied
  std::size_t piece_floats = 1U << 16;  // of a state that is handed on: asked of several holders at once
};

/// What a parameter group wants done, in order.
namespace group_effect {

struct send {
  site_id to = 0;
  envelope what;
};
/// The anchor moved on to `record`. mine: the contribution in flight is in it (also when it was learnt from a copied state). vetoed: so
/// it is, and nothing of it was taken: its mass is gone for good, and nothing of `leases`, what it was trained on, is in this group.
struct applied {
  round_record record;
  bool mine = false, finished = false, vetoed = false;
  std::vector<lease> leases;
};
/// The home's word on a contribution that it did not take as it came, once its record is committed. For people.
struct judged {
  round_number round = 0;
  site_id site = 0;
  std::string reason;
};
/// A committed contribution was drawn for an audit: its samples are to be trained again from the anchor of round - 1, then audited() tells
/// what that found. Nothing waits for it.
struct audit {
  round_number round = 0;
  contributor meta;
  shared_bytes frame;
};
/// The contribution in flight is in no record and never will be: residual += decode(frame), its tokens and leases roll over.
struct frame_lost {
  round_number round = 0;
  shared_bytes frame;
  contributor meta;
};
/// This home closes a round without these members' contributions, other ones than the round before lacked. For people.
struct closed_without {
  round_number round = 0;
  std::vector<site_id> missing;
  std::size_t here = 0, quorum = 0;  // contributions that have come, and that are enough
  duration waited{};                 // for the missing ones, since these were here: as learned from rounds before, or the grace window
};
/// Others wait for us in this round: what has been trained for it by now should go, as soon as may be; nothing: pass().
struct called {
  round_number round = 0;
};
/// Records that we had applied are void, because more sites failed than a majority bears: the anchor was copied from below them. This
/// site's part in them is to be trained again. step: what is left of its watermark; leases: what the void records named of it.
struct rolled_back {
  step_number step = 0;
  std::vector<lease> leases;
};
/// We stopped being this group's home, the warm-up is over, or the rounds that it is of are void: the aggregator's residual goes back into this site's own. [group.size]
struct residual_returned {
  std::shared_ptr<const float_array> values;
};
/// A line for this site's ledger.
struct ledger_line {
  std::string json;
};
/// The anchor does not match its record; it is being fetched from a peer.
struct diverged {
  round_number round = 0;
  hash128 expected, found;
};
/// The anchor may not be used until the next `settled` (it is being copied, or repaired).
struct unsettled {};
/// The anchor stands at a round again after enter_epoch, a copied state or a repair; epoch: in which. A joining site that has heard
/// this of all its groups says `synced`.
struct settled {
  round_number round = 0;
  epoch_number epoch = 0;
  bool finished = false;
};
/// Call tick() at this time (an earlier one replaces nothing: extra ticks do no harm).
struct wake_at {
  time_point when;
};

}  // namespace group_effect

using group_action =
    std::variant<group_effect::send, group_effect::applied, group_effect::judged, group_effect::closed_without, group_effect::audit,
                 group_effect::frame_lost, group_effect::called, group_effect::rolled_back, group_effect::residual_returned,
                 group_effect::ledger_line, group_effect::diverged, group_effect::unsettled, group_effect::settled, group_effect::wake_at>;
using group_actions = std::vector<group_action>;

/// All of a group that a checkpoint keeps. Arrays: [group.size]; momentum is empty for a rule without one.
struct group_snapshot {
  round_number round = 0;
  round_record record;  // that made the anchor; empty at round 0
  std::vector<float> anchor, momentum;
  std::vector<contributor> watermarks;
};

/// Messages that were dropped and why, for metrics.
struct group_counters {
  std::uint64_t stale_epoch = 0, stale_incarnation = 0, stale_round = 0, other_history = 0, duplicate = 0, malformed = 0, not_home = 0,
                early = 0;
  std::uint64_t rounds_applied = 0, rounds_closed = 0, records_void = 0, divergences = 0, state_copies = 0, rollbacks = 0, polls = 0;
};

/// One parameter group at one site, member and (where the epoch says so) home: docs/rounds.md. Pure: events and now in, effects out;
/// no clock, thread, file or network. Not thread-safe.
class parameter_group {
public:
  /// anchor: [shape.size], the initial weights, equal at every site.
  parameter_group(group_settings settings, std::span<const float> anchor);
  parameter_group(group_settings settings, const group_snapshot& saved);
  ~parameter_group();
  parameter_group(parameter_group&&) noexcept;

  /// A new membership view that names this site and incarnation. Older or equal numbers are ignored.
  group_actions enter_epoch(const epoch_view& view, time_point now);
  /// This site's contribution to `round`, formed from the anchor at round - 1. One at a time: the last one's fate must be known
  /// (applied or frame_lost) before the next. A contribution that comes too late gives frame_lost at once.
  group_actions local_contribution(round_number round, shared_bytes frame, contributor meta, time_point now);
  /// We have nothing for the next round.
  group_actions pass(time_point now);
  /// contribution, delta, stored, commit, refused, call, pass, state_part, want_record or want_state of this group, from a peer whose link said
  /// `incarnation`.
  group_actions receive(site_id from, incarnation_number incarnation, const envelope& what, time_point now);
  /// Could receive() of this message move the anchor? For an owner whose anchor is being read: it keeps the message back. (tick, seal,
  /// peer_up and peer_synced never move it while no contribution of ours is in flight; enter_epoch does when a cut is not at round().)
  bool may_move_anchor(const envelope& what) const;
  group_actions tick(time_point now);
  /// What an audit of a contribution to that round found (audit_cosine); the next record of this home tells everybody.
  void audited(site_id site, round_number round, double cosine);
  /// Refuses further records of that epoch. Nothing (empty optional) when we are not in it: then do not answer.
  std::optional<held_record> seal(epoch_number epoch);
  /// The same of whatever epoch up to this one we are in, or none: until the next one begins.
  std::optional<held_record> freeze(epoch_number epoch);
  /// The link to a peer is there (again): what may have been lost with it is asked for at once.
  group_actions peer_up(site_id site, time_point now);
  /// A joiner has all groups: from now on rounds wait for it.
  group_actions peer_synced(site_id site, epoch_number epoch, time_point now);

  held_record held() const;
  group_snapshot snapshot() const;

  bool is_settled() const;
  bool is_home() const;
  bool finished() const;
  bool has_frame_in_flight() const;
  round_number round() const;
  epoch_number epoch() const;
  std::uint64_t tokens_total() const;
  std::span<const float> anchor() const;
  std::span<const float> momentum() const;
  const round_record& record() const;
  const watermark_table& watermarks() const;
  const group_counters& counters() const;

private:
  struct state;
  std::unique_ptr<state> state_;
};

/// Over every field, in order: links the chain of records.
hash128 hash_record(const round_record& record);

}  // namespace isthmus
