#include "actors/incarnation.hpp"
#include "actors/site_state.hpp"
#include "framework/core/exit_code.hpp"

#include <algorithm>
#include <utility>

namespace isthmus::actors {

namespace {

/// outside: we are in no such epoch, and whichever we are in is over.
void seal(site_actor* self, epoch_number epoch, bool outside) {
  auto& s = self->state;
  s.seals.erase(epoch);
  for (const auto& group : s.groups) self->send(group, seal_group{epoch, outside});
}

void say_join(site_actor* self) {
  auto& s = self->state;
  message::join join{s.parts->incarnation, {}};
  for (const auto& [group, held] : s.held) join.held.push_back(held);
  send_to(self, coordinator_id, {std::move(join), nullptr});
  if (s.view.number == 0) return;  // a coordinator that was restarted must hear again what it heard in this epoch
  if (s.said_synced == s.view.number) send_to(self, coordinator_id, {message::synced{s.view.number}, nullptr});
  if (s.sealed == s.view.number) seal(self, s.sealed, false);
}

/// This process in the epoch; null when it is left out.
const epoch_member* own_entry(const site_state& s) {
  const auto found = std::ranges::find_if(
      s.view.members, [&](const epoch_member& m) { return m.site == s.parts->self && m.incarnation == s.parts->incarnation; });
  return found == s.view.members.end() ? nullptr : &*found;
}

void take_epoch(site_actor* self, const epoch_view& view) {
  auto& s = self->state;
  if (view.number <= s.view.number) return;
  s.view = view;
  s.seals.erase(s.seals.begin(), s.seals.lower_bound(view.number));
  tell(self, "epoch", "epoch " + std::to_string(view.number) + " with " + std::to_string(view.members.size()) + " sites: " + view.reason);
  const epoch_member* me = own_entry(s);
  if (me == nullptr) return say_join(self);  // left out while we were silent: come back as a joiner
  for (const auto& m : view.members)         // who is back is dialled at once, whatever the back-off says
    if (m.site != s.parts->self && !s.links_up.contains(m.site)) s.parts->wire.keep(m.site, s.parts->addresses.at(m.site));
  for (const auto& group : s.groups) self->send(group, enter_epoch{view});
  self->send(s.trainer, stand_by{me->standing_by});
  if (s.training && !s.finished) progress(self, at_work(s));
}

}  // namespace

std::string at_work(const site_state& s) {
  const epoch_member* me = own_entry(s);
  return me != nullptr && me->standing_by ? "standing by" : "training";
}

void take_group_synced(site_actor* self, const group_synced& m) {
  auto& s = self->state;
  s.group_epochs[m.group] = m.epoch;
  const bool all = s.group_epochs.size() == s.groups.size() &&
                   std::ranges::all_of(s.group_epochs, [&](const auto& entry) { return entry.second == s.view.number; });
  const epoch_member* me = own_entry(s);
  if (!all || me == nullptr || !me->joining || s.said_synced == s.view.number) return;
  s.said_synced = s.view.number;
  const message::synced synced{s.view.number};
  for (const auto& member : s.view.members)
    if (member.site != s.parts->self) send_to(self, member.site, {synced, nullptr});
  send_to(self, coordinator_id, {synced, nullptr});
  for (const auto& group : s.groups) self->send(group, peer_is_synced{s.parts->self, s.view.number});
}

void take_group_started(site_actor* self, const group_started& m) {
  auto& s = self->state;
  s.marks[m.group] = m.mark;
  if (s.marks.size() < s.groups.size() || s.training) return;
  s.training = true;
  recover_leases recover;
  step_number step = s.start->step;
  for (const auto& [group, mark] : s.marks) {
    recover.named.push_back(mark.leases);
    step = std::max(step, mark.step);
  }
  s.step = step;
  s.tokens = step * static_cast<std::uint64_t>(s.parts->plan.train.tokens_per_step);  // those that records name, too
  for (const auto& group : s.groups) self->send(group, restore_book{});
  self->send(s.shard, std::move(recover));
}

void seal_again(site_actor* self) {
  const auto& s = self->state;
  if (s.view.number > 0 && s.sealed == s.view.number) seal(self, s.sealed, false);
}

void take_seal(site_actor* self, const group_sealed& m) {
  auto& s = self->state;
  auto& answers = s.seals[m.epoch];
  answers[m.held.group] = m.held;
  if (answers.size() < s.groups.size()) return;
  std::vector<held_record> all;
  for (const auto& [group, held] : answers) all.push_back(held);
  if (m.outside)
    send_to(self, coordinator_id, {message::frozen{m.epoch, std::move(all)}, nullptr});
  else
    send_to(self, coordinator_id, {message::sealed{m.epoch, std::move(all)}, nullptr});
}

void take_inbound(site_actor* self, const inbound& m) {
  auto& s = self->state;
  const auto to_group = [&](group_id group) {
    if (group < s.groups.size()) self->send(s.groups[group], group_message{m.from, m.incarnation, m.what});
  };
  const auto& body = m.what.body;
  if (m.from == coordinator_id) {
    if (const auto* end_of = std::get_if<message::seal>(&body)) {
      s.sealed = end_of->epoch;
      seal(self, end_of->epoch, false);
    } else if (const auto* freeze = std::get_if<message::freeze>(&body)) {
      seal(self, freeze->epoch, true);
    } else if (const auto* epoch = std::get_if<message::new_epoch>(&body)) {
      take_epoch(self, epoch->view);
    } else if (const auto* stop = std::get_if<message::stop_run>(&body)) {
      if (stop->finished)
        end(self, 0, stop->reason);
      else
        self->send(caf::actor_cast<caf::actor>(self), drain{stop->reason});
    }
    return;
  }
  std::visit(
      [&](const auto& x) {
        using type = std::decay_t<decltype(x)>;
        if constexpr (std::is_same_v<type, message::delta>) {
          to_group(x.record.group);
        } else if constexpr (requires { x.group; }) {
          to_group(x.group);
        } else if constexpr (std::is_same_v<type, message::to_actor>) {
          take_to_actor(self, m);
        } else if constexpr (std::is_same_v<type, message::synced>) {
          for (const auto& group : s.groups) self->send(group, peer_is_synced{m.from, x.epoch});
        }
      },
      body);
}

/// A later incarnation was here, and the run has never admitted this one: its disk was lost or is an old copy. The next start is later.
void come_back_later(site_actor* self, const std::string& reason) {
  const auto skipped = skip_incarnations(self->state.parts->disk, own_folder(self->state.parts->self));
  if (!skipped) return end(self, exit_code_of(skipped.error().code), skipped.error().message);
  end(self, exit_failed, reason + "; this process never took part, so its disk was lost or is an old copy: it comes back as a later one");
}

/// Every site calls the coordinator, so its word decides whether this process belongs to the run, unless it has had us already: then its
/// address is in other hands now. Of a peer's address that may always be so. Who is of this run and has met our successor is right.
void take_link_refusal(site_actor* self, const link_refused& m) {
  auto& s = self->state;
  const bool replaced = m.reason.code == errc::stale_incarnation;
  if (replaced && !s.admitted) return come_back_later(self, m.reason.message);
  if (replaced || (m.peer == coordinator_id && !s.admitted)) return end(self, 6, m.reason.message);
  if (std::exchange(s.refusals[m.peer], m.reason.message) != m.reason.message) tell(self, "refused", m.reason.message);
}

void take_link_change(site_actor* self, const link_changed& m) {
  auto& s = self->state;
  const std::string name = m.peer == coordinator_id ? "the coordinator" : s.parts->plan.sites.at(m.peer).name;
  if (m.up)
    s.links_up.insert(m.peer);
  else
    s.links_up.erase(m.peer);
  tell(self, m.up ? "link_up" : "link_down", (m.up ? "link to " : "lost the link to ") + name + (m.up ? "" : ": " + m.reason.message));
  self->send(s.metrics, link_sample{m.peer, m.up, s.parts->wire.counters(m.peer)});
  if (m.up && s.said_synced > 0 && s.said_synced == s.view.number)  // it may not have heard so
    send_to(self, m.peer, {message::synced{s.said_synced}, nullptr});
  if (m.peer == coordinator_id) {
    if (m.up) {
      s.admitted = true;
      say_join(self);
      if (s.finished) send_to(self, coordinator_id, {message::leave{"finished", true}, nullptr});
    }
  } else if (m.up) {
    s.suspects.erase(m.peer);
    for (const auto& group : s.groups) self->send(group, m);
  } else {
    s.suspects[m.peer] = {m.peer, m.incarnation, m.reason.message};
    send_to(self, coordinator_id, {s.suspects[m.peer], nullptr});
  }
}

}  // namespace isthmus::actors
