#pragma once

#include "framework/rounds/guard.hpp"
#include "framework/rounds/parameter_group.hpp"
#include "framework/rounds/state_copy.hpp"

#include <map>
#include <set>
#include <span>
#include <utility>

namespace isthmus {

/// The insides of parameter_group, shared by its files: parameter_group.cpp (epochs), group_member.cpp, group_copy.cpp, group_home.cpp.
struct parameter_group::state {
  struct delivered {  // a record with its delta's bytes
    round_record record;
    hash128 hash;
    shared_bytes bytes;
  };
  struct collected_frame {
    contributor meta;
    shared_bytes frame;
  };
  struct frame_in_flight {
    round_number round = 0;
    shared_bytes frame;
    contributor meta;
    hash128 base;  // of the record behind which it was formed
  };
  struct candidate {  // the home's next state, until the record that it made is committed
    std::unique_ptr<float_array> anchor, momentum, residual;
    std::set<site_id> stored_at;
    std::vector<judged_contribution> judged;               // where the recipe guards: without their numbers
    std::vector<std::pair<site_id, std::string>> reasons;  // for people: of vetoes, capped weights and failed audits
    std::vector<group_effect::audit> audits;               // drawn
  };
  struct workspace {  // arrays that the home writes in each round: what is not in use of them; null: not made yet
    std::unique_ptr<float_array> sum, anchor, momentum;
  };
  struct early_message {
    site_id from;
    incarnation_number incarnation;
    envelope what;
  };

  struct served_state {  // as it was when somebody asked for it: the anchor moves on meanwhile
    state_name name;
    round_record record;
    std::vector<contributor> marks;
    float_array values;
    time_point asked{};
    served_state(state_name n, round_record r, std::vector<contributor> m, std::size_t floats, time_point now)
        : name(n), record(std::move(r)), marks(std::move(m)), values(floats), asked(now) {}
  };

  explicit state(group_settings s);

  // --- parameter_group.cpp: epochs and shared helpers
  void enter(const epoch_view& view, time_point now);
  void receive(site_id from, incarnation_number incarnation, const envelope& what, time_point now);
  void settle_pending_by_cut(time_point now);
  void start_catching_up(const epoch_member& me);
  void replay_early(time_point now);
  void send(site_id to, peer_message body, shared_bytes payload = nullptr);
  template <class Effect>
  void say(Effect effect) {
    out.emplace_back(std::in_place_type<Effect>, std::move(effect));
  }
  void note(std::string line) { say(group_effect::ledger_line{std::move(line)}); }
  group_actions take() { return std::exchange(out, {}); }
  const epoch_member* member(site_id site) const;
  bool holds_cut() const;
  bool at_home() const { return view.number > 0 && cut.home == s.self; }
  bool is_finished() const { return s.tokens_goal > 0 && record.tokens_total >= s.tokens_goal; }
  void settle(time_point now);
  void unsettle();

  // --- group_member.cpp
  void on_delta(site_id from, const message::delta& m, const shared_bytes& payload, time_point now);
  void on_commit(const message::commit& m, time_point now);
  void on_refused(site_id from, const message::refused& m, time_point now);
  void on_call(site_id from, const message::call& m);
  void on_want_record(site_id from, const message::want_record& m, time_point now);
  void advance_chain(time_point now);
  /// Applies one committed record. False on a divergence.
  bool apply(const delivered& d, time_point now);
  void moved_on(const delivered& d, time_point now);
  void report_applied();
  void divergence(const round_record& r, const hash128& found, time_point now);
  void lose_frame();
  void send_frame(time_point now);
  void poll(time_point now);
  void reset_poll(time_point now);
  bool store_next(time_point now);
  /// The record of round + 1 if we have it and know that it is committed. Sets `forked` when committed history does not fit ours.
  std::optional<delivered> next_committed(bool& forked) const;

  // --- group_copy.cpp
  /// Goes for that state, or whatever others have; the first of them is asked first.
  void fetch_state(const std::optional<state_name>& wanted, site_id first);
  void ask(const state_copy::questions& questions);
  void on_want_state(site_id from, const message::want_state& m, time_point now);
  void on_state_part(site_id from, const message::state_part& m, const shared_bytes& payload, time_point now);
  void install(time_point now);
  /// For who lags too far behind: a piece of a state of that round or a later one. It asks for the rest.
  void offer_state(site_id to, round_number at_least, time_point now);
  void serve(time_point now);
  void send_piece(site_id to, std::uint64_t begin);
  state_name name() const { return {round, record_hash}; }
  state_name name_of_cut() const { return {cut.round, cut.record_hash}; }

  // --- group_home.cpp
  void on_contribution(site_id from, const message::contribution& m, const shared_bytes& payload, time_point now);
  void on_pass(site_id from, const message::pass& m, time_point now);
  void on_stored(site_id from, const message::stored& m, time_point now);
  void collect(contributor meta, shared_bytes frame, time_point now);
  void try_close(time_point now);
  void tell_missing(std::vector<site_id> missing, std::size_t quorum, time_point now);
  /// Asks that site for what it has.
  void call(site_id site);
  void close(time_point now);
  /// Sums the collected contributions and encodes the delta. What a lossy codec did not send goes to the candidate.
  shared_bytes reduce(round_record& r, candidate& c);
  std::uint64_t add_all(round_record& r, candidate& c, std::span<float> sum);
  std::uint64_t add_judged(round_record& r, candidate& c, std::span<float> sum);
  void veto_unreadable(judged_contribution& one, const error& why);
  void draw_audits(const round_record& r, candidate& c) const;
  std::vector<float> last_mean() const;
  void take_candidate();
  /// The aggregator's residual, if there is one, goes back into this site's own.
  void return_residual(round_number at);
  void count_stores(time_point now);
  void keep_valid_contributions();
  void reopen();
  void refuse(site_id to, round_number r, errc code, std::string reason);
  void trim_kept();

  group_settings s;
  group_actions out;
  group_counters counters;

  // what every site has: the anchor at `round`, made by `record`
  round_number round = 0;
  round_record record;
  hash128 record_hash, anchor_hash;
  std::unique_ptr<float_array> anchor, momentum;
  watermark_table marks;
  std::map<round_number, delivered> kept;  // committed, for members that lag

  // the epoch
  epoch_view view;
  group_cut cut;
  bool sealed = false, settled = true;
  bool copying = false;  // our anchor is of no use: waiting for a peer's state
  bool diverged = false;
  std::set<site_id> synced;                                // joiners that count by now
  std::map<epoch_number, std::set<site_id>> synced_early;  // who said so before we entered that epoch
  std::vector<early_message> early;                        // of an epoch or round we have not reached

  // member
  std::optional<delivered> pending;         // round + 1: stored, not known to be committed
  std::map<round_number, delivered> ahead;  // not yet in line
  std::map<round_number, hash128> commits;  // heard of before the record came
  std::optional<frame_in_flight> in_flight;
  std::unique_ptr<state_copy> copy;  // on its way here
  std::size_t copies_failed = 0;
  std::optional<round_number> copied_at;  // the anchor came from others then, and has not moved since
  std::unique_ptr<served_state> served;   // to others
  duration poll_wait{};
  time_point next_poll{};

  // home
  std::map<site_id, collected_frame> collected;
  std::optional<time_point> opened, quorum_at;
  bool called = false;                // those whose contribution is missing
  std::set<site_id> passed;           // those that have none
  std::vector<site_id> told_missing;  // of the round that closed last
  time_point last_quorum{};
  std::unique_ptr<float_array> residual;  // of the aggregator, in units of the sum; null: none so far
  std::optional<candidate> next;          // belongs to `pending` when we made it
  workspace spare;
  std::map<site_id, round_number> member_round;
  learned_deadline deadline;
  guard watch;
  audit_list audits;
};

}  // namespace isthmus
