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
  struct site { site_id id = 0; bool may_be_home = true; };
  std::vector<site> roster;                                 // in site order
  std::uint32_t groups = 1;
  std::uint32_t min_sites = 0;                              // before the first epoch once roster_wait is over; 0: a majority of the roster
  duration roster_wait = std::chrono::seconds(10);          // for all of the roster, before the first epoch
  duration dead_after = std::chrono::seconds(2);            // of silence
  duration seal_wait = std::chrono::milliseconds(500);      // for the rest of the living once ceil(n/2) have sealed
  duration retry = std::chrono::seconds(1);
};

namespace membership_effect {
struct send { site_id to = 0; peer_message what; };
/// Append to the log by compare-and-swap; if that fails another coordinator has taken over: drop the effects behind it and stop.
struct append { coordinator_entry entry; };
/// What was decided and why, for people.
struct decision { std::string text; };
struct wake_at { time_point when; };
/// The run is over: every live member said so.
struct finished { std::string reason; };
}  // namespace membership_effect

using membership_action = std::variant<membership_effect::send, membership_effect::append, membership_effect::decision,
                                       membership_effect::wake_at, membership_effect::finished>;
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
/// effects out, in order. All it must remember across a crash is its log: give its entries to the constructor.
class membership {
public:
  membership(membership_settings settings, const std::vector<coordinator_entry>& log, time_point now);

  membership_actions join(site_id site, const message::join& m, time_point now);
  /// Anything at all was heard from that site (beats above all).
  membership_actions heard(site_id site, time_point now);
  /// The link to a site is gone (its process ended, or silence lasted too long).
  membership_actions lost(site_id site, incarnation_number incarnation, const std::string& reason, time_point now);
  /// A site misses another: both must be heard of here; a peer that we still hear is kept until `suspect` comes from a majority.
  membership_actions suspect(site_id from, const message::suspect& m, time_point now);
  membership_actions sealed(site_id from, const message::sealed& m, time_point now);
  membership_actions synced(site_id from, const message::synced& m, time_point now);
  membership_actions leave(site_id from, const message::leave& m, time_point now);
  membership_actions report(site_id from, const message::report& m, time_point now);
  membership_actions tick(time_point now);
  /// The user asks for the end: stop_run to everybody.
  membership_actions stop(const std::string& reason, time_point now);

  const epoch_view& view() const { return view_; }
  bool changing() const { return change_.has_value(); }
  bool is_finished() const { return finished_; }
  std::vector<site_status> status() const;

private:
  struct peer {
    bool may_be_home = true;
    incarnation_number incarnation = 0;   // highest seen
    bool connected = false;               // joined with that incarnation and not lost since
    bool left = false, done = false;
    time_point last_heard{};
    std::vector<held_record> held;        // from join
    message::report last_report;
    std::set<site_id> suspected_by;
  };
  struct change {
    std::string reason;
    std::map<site_id, std::vector<held_record>> seals;  // those that count
    std::optional<time_point> enough_since;
    time_point last_sent{};
  };

  bool alive(const peer& p) const { return p.connected && !p.left; }
  const epoch_member* member(site_id site) const;
  bool is_void(const held_record& h) const;
  bool holds_cuts(const std::vector<held_record>& held) const;
  void begin_first(time_point now, membership_actions& out);
  void begin_change(const std::string& reason, time_point now, membership_actions& out);
  void advance(time_point now, membership_actions& out);
  void send_seals(time_point now, membership_actions& out);
  void conclude(bool restart, time_point now, membership_actions& out);
  void publish(const epoch_view& view, coordinator_entry entry, membership_actions& out);
  std::string reason_to_change() const;

  membership_settings settings_;
  std::map<site_id, peer> peers_;
  epoch_view view_;                                        // number 0 before the first epoch
  std::vector<std::pair<epoch_number, std::vector<group_cut>>> past_cuts_;
  std::optional<change> change_;
  time_point started_{};
  bool finished_ = false;
};

}  // namespace isthmus
