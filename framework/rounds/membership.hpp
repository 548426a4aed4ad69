#pragma once

#include "framework/core/clock.hpp"
#include "framework/rounds/coordinator_log.hpp"
#include "framework/rounds/messages.hpp"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

namespace isthmus {

struct membership_settings {
  struct site {
    site_id id = 0;
    bool may_be_home = true;
    bool spare = false;  // trains only in the place of one that is missing
  };
  std::vector<site> roster;  // in site order
  std::uint32_t groups = 1;
  std::uint32_t min_sites = 0;                          // before the first epoch once roster_wait is over; 0: a majority of the roster
  duration roster_wait = std::chrono::seconds(10);      // for all of the roster, before the first epoch
  duration dead_after = std::chrono::seconds(2);        // of silence
  duration seal_wait = std::chrono::milliseconds(500);  // for the rest of the living once ceil(n/2) have sealed
  duration retry = std::chrono::seconds(1);
};

namespace membership_effect {
struct send {
  site_id to = 0;
  peer_message what;
};
/// Break the link to a site that was silent for too long: if it lives after all it learns so, calls again and joins again. Left alone it
/// would never know that it is left out.
struct close {
  site_id site = 0;
  std::string reason;
};
/// Append to the log by compare-and-swap, then call appended(); always the last effect. If it fails (another coordinator has taken over,
/// the disk is full) there is nothing more to do: nothing was decided, and no event has an effect any more.
struct append {
  coordinator_entry entry;
};
/// What was decided and why, for people.
struct decision {
  std::string text;
};
struct wake_at {
  time_point when;
};
/// The run is over: every live member said so.
struct finished {
  std::string reason;
};
}  // namespace membership_effect

using membership_action = std::variant<membership_effect::send, membership_effect::close, membership_effect::append,
                                       membership_effect::decision, membership_effect::wake_at, membership_effect::finished>;
using membership_actions = std::vector<membership_action>;

/// How the coordinator sees a site, for status.
struct site_status {
  site_id site = 0;
  incarnation_number incarnation = 0;
  bool alive = false, member = false, joining = false, done = false;
  step_number step = 0;
  std::uint64_t tokens = 0;
  double loss = 0, tokens_per_second = 0;
};

/// The coordinator's decisions: who is in the run, and from which cut each epoch starts (docs/rounds.md). Pure: events and now in,
/// effects out, in order. All it must remember across a crash is its log: give its entries to the constructor. A decision counts, and is
/// told, once appended() says that it stands there; until then all events are ignored.
class membership {
public:
  membership(membership_settings settings, const std::vector<coordinator_entry>& log, time_point now);

  membership_actions join(site_id site, const message::join& m, time_point now);
  /// Anything at all was heard from that site (beats above all).
  membership_actions heard(site_id site, time_point now);
  /// The link to a site is gone (its process ended, or silence lasted too long).
  membership_actions lost(site_id site, incarnation_number incarnation, const std::string& reason, time_point now);
  /// A site misses another; to be repeated while it does. The suspect is left out once a majority of the other live members miss it,
  /// or the pair has been apart for 2 * dead_after (then the one that more sites miss; of equals the higher id). Both ways alike.
  /// Nothing is held against a site that has just come, or that we miss ourselves.
  membership_actions suspect(site_id from, const message::suspect& m, time_point now);
  /// This and synced() are to be said again behind each join: a coordinator that was restarted has forgotten them, and the end of an
  /// epoch that it had begun.
  membership_actions sealed(site_id from, const message::sealed& m, time_point now);
  /// The answer of a site outside of the epoch to message::freeze.
  membership_actions frozen(site_id from, const message::frozen& m, time_point now);
  membership_actions synced(site_id from, const message::synced& m, time_point now);
  membership_actions leave(site_id from, const message::leave& m, time_point now);
  /// Who reports trains: what it said of its end before is void.
  membership_actions report(site_id from, const message::report& m, time_point now);
  membership_actions tick(time_point now);
  /// The user asks for the end: stop_run to everybody.
  membership_actions stop(const std::string& reason, time_point now);
  /// The entry of the last append is in the log.
  membership_actions appended(time_point now);

  const epoch_view& view() const { return view_; }
  bool changing() const { return change_.has_value(); }
  bool is_finished() const { return finished_; }
  std::vector<site_status> status() const;

private:
  struct suspicion {
    time_point first{}, last{};
  };
  struct peer {
    bool may_be_home = true, spare = false;
    incarnation_number incarnation = 0;  // highest seen
    bool connected = false;              // joined with that incarnation and not lost since
    bool seen = false;                   // since this coordinator started
    bool left = false, done = false;
    std::string why_gone;
    time_point last_heard{}, barred_until{}, connected_at{};
    std::vector<held_record> held;  // from join
    message::report last_report;
    std::map<site_id, suspicion> suspected_by;
  };
  struct answer {
    incarnation_number incarnation;
    std::vector<held_record> held;
  };
  struct change {
    std::string reason;
    std::map<site_id, answer> seals;   // those that count
    std::map<site_id, answer> behind;  // sealed too, but without this epoch's cuts; or frozen outside of it
    std::optional<time_point> enough_since;
    time_point next_sending{};
  };

  bool alive(const peer& p, time_point now) const { return p.connected && !p.left && now >= p.barred_until; }
  const epoch_member* member(site_id site) const;
  bool is_current(const epoch_member& m) const;
  bool counts(const epoch_member& m) const { return !m.joining || synced_.contains(m.site); }
  bool is_void(const held_record& h) const;
  bool holds_cuts(const std::vector<held_record>& held) const;
  void take_suspicions(time_point now);
  std::string reason_to_change(time_point now) const;
  void advance(time_point now, membership_actions& out);
  void begin_first(time_point now, membership_actions& out);
  void begin_change(const std::string& reason, time_point now, membership_actions& out);
  void advance_change(time_point now, membership_actions& out);
  void send_seals(time_point now, membership_actions& out);
  void ask_outsiders(membership_actions& out) const;
  void conclude(bool restart, time_point now, membership_actions& out);
  void enter(const coordinator_entry& entry, membership_actions& out);
  void finish(membership_actions& out);
  epoch_view successor(time_point now) const;
  std::vector<group_cut> choose_cuts(time_point now) const;  // empty: nobody holds any state of some group
  bool cuts_are_held(time_point now) const;
  void choose_members(epoch_view& next, time_point now) const;
  void choose_homes(epoch_view& next) const;
  bool homes_are_uneven(time_point now) const;
  std::size_t places_missing(const epoch_view& view) const;
  std::string reason_to_change_spares() const;
  void choose_spares(epoch_view& next) const;
  void finish_if_done(time_point now, membership_actions& out);

  membership_settings settings_;
  std::map<site_id, peer> peers_;
  epoch_view view_;  // number 0 before the first epoch
  std::vector<std::pair<epoch_number, std::vector<group_cut>>> past_cuts_;
  std::optional<change> change_;
  std::optional<coordinator_entry> deciding_;  // not in the log yet
  std::set<site_id> synced_;                   // joiners of view_ that have caught up
  time_point started_{};
  bool finished_ = false;
};

}  // namespace isthmus
