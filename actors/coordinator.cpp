#include "actors/coordinator.hpp"

#include "actors/link.hpp"
#include "actors/messages.hpp"
#include "actors/overloaded.hpp"
#include "actors/wire_events.hpp"
#include "framework/core/rare.hpp"
#include "framework/rounds/membership.hpp"
#include "framework/rounds/restart_budget.hpp"

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <set>

namespace isthmus::actors {

namespace {

constexpr auto tick_every = std::chrono::milliseconds(100);
constexpr auto linger = std::chrono::seconds(1);  // after the end: the last words reach the sites

rare_site dies_behind_its_log("the coordinator dies between writing a decision and telling it", 0.05);

using event = std::function<membership_actions(membership&, time_point)>;

struct coordinator_state {
  std::shared_ptr<coordinator_parts> parts;
  std::optional<membership> members;
  caf::actor log;
  bool deciding = false;      // an entry is on its way to the log: what comes in meanwhile waits
  std::deque<event> waiting;  // in order
  std::shared_ptr<link_table> table;
  std::map<site_id, caf::actor> links;
  std::set<site_id> links_up;
  std::map<site_id, restart_budget> budgets;  // of links
  bool stopping = false, ended = false;
};
using coordinator_actor = caf::stateful_actor<coordinator_state>;

time_point now(coordinator_actor* self) { return self->clock().now(); }

void end(coordinator_actor* self, int exit_code, const std::string& reason) {
  if (self->state.ended) return;
  self->state.ended = true;
  self->delayed_send(self, linger, site_stopped{exit_code, reason});
}

/// The log's own actor: writing waits for the disk, or for etcd.
caf::behavior log_writer(caf::event_based_actor* self, std::shared_ptr<coordinator_parts> parts, caf::actor owner) {
  end_with_reason(self);
  return {[=](const append_entry& m) {
    const auto done = parts->log->append(m.entry);
    self->send(owner, entry_appended{done ? error{} : done.error()});
  }};
}

/// What it would decide now stands in no log: `members` says nothing more, and so there is nothing to wait for.
void end_without_log(coordinator_actor* self, const error& why) {
  auto& s = self->state;
  if (s.ended) return;
  const bool fenced = why.code == errc::stale_epoch;
  const bool ours = why.code == errc::disk_full || why.code == errc::io_failed;
  const std::string reason = (fenced ? "another coordinator has taken over: " : "the log could not be extended: ") + why.message;
  s.ended = true;
  s.parts->decided(fenced ? "fenced" : std::string(describe(why.code)), reason);
  s.parts->stopped(ours ? 4 : 1, reason);
}

void perform(coordinator_actor* self, const membership_actions& actions) {
  auto& s = self->state;
  for (const auto& action : actions)
    std::visit(
        overloaded{
            [&](const membership_effect::send& e) {
              if (const auto link = s.links.find(e.to); link != s.links.end()) self->send(link->second, outbound{e.to, {e.what, nullptr}});
            },
            [&](const membership_effect::close& e) {
              s.parts->wire.close(e.site, {errc::timed_out, e.reason});
            },
            [&](const membership_effect::append& e) {
              s.deciding = true;
              self->send(s.log, append_entry{e.entry});
            },
            [&](const membership_effect::decision& e) { s.parts->decided("decision", e.text); },
            [&](const membership_effect::wake_at& e) { self->delayed_send(self, std::max(e.when - now(self), duration{}), group_tick{}); },
            [&](const membership_effect::finished& e) { end(self, 0, e.reason); },
        },
        action);
}

/// Now, or when the decision before is in the log.
void happen(coordinator_actor* self, event what) {
  auto& s = self->state;
  if (s.deciding)
    s.waiting.push_back(std::move(what));
  else
    perform(self, what(*s.members, now(self)));
}

void take_appended(coordinator_actor* self, const entry_appended& m) {
  auto& s = self->state;
  if (s.ended) return;
  if (m.why.code != errc::ok) return end_without_log(self, m.why);
  if (dies_behind_its_log()) throw contract_error("a rehearsed crash behind the log");
  s.deciding = false;
  perform(self, s.members->appended(now(self)));
  while (!s.deciding && !s.waiting.empty()) {
    const event next = std::move(s.waiting.front());
    s.waiting.pop_front();
    perform(self, next(*s.members, now(self)));
  }
}

void take(coordinator_actor* self, const inbound& m) {
  perform(self, self->state.members->heard(m.from, now(self)));
  const auto site = m.from;
  std::visit(overloaded{
                 [&](const message::join& x) { happen(self, [=](auto& s, time_point t) { return s.join(site, x, t); }); },
                 [&](const message::suspect& x) { happen(self, [=](auto& s, time_point t) { return s.suspect(site, x, t); }); },
                 [&](const message::sealed& x) { happen(self, [=](auto& s, time_point t) { return s.sealed(site, x, t); }); },
                 [&](const message::frozen& x) { happen(self, [=](auto& s, time_point t) { return s.frozen(site, x, t); }); },
                 [&](const message::synced& x) { happen(self, [=](auto& s, time_point t) { return s.synced(site, x, t); }); },
                 [&](const message::leave& x) { happen(self, [=](auto& s, time_point t) { return s.leave(site, x, t); }); },
                 [&](const message::report& x) { happen(self, [=](auto& s, time_point t) { return s.report(site, x, t); }); },
                 [](const auto&) {},
             },
             m.what.body);
}

membership_settings settings_of(const coordinator_parts& parts) {
  membership_settings s;
  for (std::size_t i = 0; i < parts.plan.sites.size(); ++i)
    s.roster.push_back({static_cast<site_id>(i), parts.plan.sites[i].home, parts.plan.sites[i].spare});
  s.groups = parts.groups;
  if (parts.plan.run.deterministic) s.min_sites = static_cast<std::uint32_t>(parts.plan.sites.size());
  s.dead_after = std::chrono::milliseconds(parts.plan.links.dead_after_ms);
  return s;
}

void start_link(coordinator_actor* self, site_id peer) {
  auto& s = self->state;
  const auto& links = s.parts->plan.links;
  s.links[peer] = spawn_link(self,
                             {coordinator_id,
                              peer,
                              s.parts->incarnation,
                              s.parts->run_id,
                              {std::chrono::milliseconds(links.heartbeat_ms), std::chrono::milliseconds(links.dead_after_ms)}},
                             s.parts->wire);
  s.table->set(peer, s.links[peer]);
}

/// A link's actor failed: it is begun again, with a new connection, within its budget.
void link_ended(coordinator_actor* self, const caf::exit_msg& m) {
  auto& s = self->state;
  const std::string why = caf::to_string(m.reason);
  const auto link = std::find_if(s.links.begin(), s.links.end(), [&](const auto& entry) { return entry.second.address() == m.source; });
  if (s.ended) return;
  if (link == s.links.end()) return self->quit(m.reason);  // the log's: what stands there is read again by the next one
  const site_id peer = link->first;
  const std::string name = "the link to site " + std::to_string(peer);
  if (!s.budgets[peer].spend(now(self))) return end(self, 1, name + " keeps failing: " + why);
  s.parts->decided("crash", name + " failed (" + why + "); restarted");
  s.links_up.erase(peer);
  start_link(self, peer);
  s.parts->wire.close(peer, {errc::disconnected, "its link actor failed"});
}

caf::behavior coordinator(coordinator_actor* self, std::shared_ptr<coordinator_parts> parts) {
  end_with_reason(self);
  auto& s = self->state;
  s.parts = std::move(parts);
  s.table = std::make_shared<link_table>();
  s.members.emplace(settings_of(*s.parts), s.parts->log->entries(), now(self));
  const caf::actor owner(self);
  s.log = s.parts->where == tier::real ? self->spawn<caf::linked + caf::detached>(log_writer, s.parts, owner)
                                       : self->spawn<caf::linked>(log_writer, s.parts, owner);
  self->set_exit_handler([=](caf::exit_msg& m) { link_ended(self, m); });
  for (site_id peer = 0; peer < s.parts->plan.sites.size(); ++peer) start_link(self, peer);
  s.parts->wire.start(events_for(s.table));
  self->delayed_send(self, tick_every, coordinator_tick{});
  return {
      [=](const inbound& m) { take(self, m); },
      [=](const link_changed& m) {
        auto& up = self->state.links_up;
        if (m.up)
          up.insert(m.peer);
        else
          up.erase(m.peer);
        if (!m.up) happen(self, [m](auto& members, time_point t) { return members.lost(m.peer, m.incarnation, m.reason.message, t); });
      },
      [=](const link_heard& m) { perform(self, self->state.members->heard(m.peer, now(self))); },
      [=](const coordinator_tick&) {
        self->delayed_send(self, tick_every, coordinator_tick{});
        perform(self, self->state.members->tick(now(self)));
        if (self->state.stopping && self->state.links_up.empty()) end(self, 7, "asked to stop, and every site has gone");
      },
      [=](const group_tick&) { perform(self, self->state.members->tick(now(self))); },
      [=](const drain& m) {
        self->state.stopping = true;
        happen(self, [why = m.reason](auto& members, time_point t) { return members.stop(why, t); });
      },
      [=](const entry_appended& m) { take_appended(self, m); },
      [=](const log_closed& m) { end_without_log(self, m.why); },
      [](const save_now&) {},  // it has nothing to save
      [=](const fail_link& m) {
        const auto link = self->state.links.find(m.peer);
        if (link != self->state.links.end()) self->send(link->second, m);
      },
      [=](const site_stopped& m) { self->state.parts->stopped(m.exit_code, m.reason); },
  };
}

}  // namespace

caf::actor spawn_coordinator(caf::actor_system& system, std::shared_ptr<coordinator_parts> parts) {
  return system.spawn(coordinator, std::move(parts));
}

}  // namespace isthmus::actors
