#include "tests/framework/rounds/cluster_state.hpp"

namespace isthmus::testing {

void cluster::kill_coordinator() {
  members_.reset();
  log_.reset();
  ++coordinator_life_;
}

void cluster::restart_coordinator() {
  log_ = *file_log::open(*coordinator_storage_, log_path);
  membership_settings m;
  for (site_id i = 0; i < settings_.sites; ++i) m.roster.push_back({i, true});
  m.groups = settings_.groups;
  m.roster_wait = std::chrono::seconds(2);
  m.dead_after = std::chrono::milliseconds(600);
  m.seal_wait = std::chrono::milliseconds(100);
  m.retry = std::chrono::milliseconds(150);
  members_ = std::make_unique<membership>(m, log_->entries(), world_.now());
  for (auto& s : sites_)
    if (s->alive && !s->stopped) greet(*s);
}

void cluster::at_coordinator(site_id from, incarnation_number incarnation, const peer_message& what) {
  const time_point now = world_.now();
  if (incarnation != sites_[from]->incarnation && !std::holds_alternative<message::join>(what)) return;
  handle(members_->heard(from, now));
  if (const auto* j = std::get_if<message::join>(&what))
    handle(members_->join(from, *j, now));
  else if (const auto* f = std::get_if<message::frozen>(&what))
    handle(members_->frozen(from, *f, now));
  else if (const auto* s = std::get_if<message::sealed>(&what))
    handle(members_->sealed(from, *s, now));
  else if (const auto* y = std::get_if<message::synced>(&what))
    handle(members_->synced(from, *y, now));
  else if (const auto* l = std::get_if<message::leave>(&what))
    handle(members_->leave(from, *l, now));
  else if (const auto* u = std::get_if<message::suspect>(&what))
    handle(members_->suspect(from, *u, now));
}

void cluster::handle(membership_actions actions) {
  const std::uint64_t life = coordinator_life_;
  for (auto& action : actions) {
    if (life != coordinator_life_) return;
    if (auto* s = std::get_if<membership_effect::send>(&action))
      send(coordinator_id, s->to, {std::move(s->what), nullptr});
    else if (auto* a = std::get_if<membership_effect::append>(&action)) {
      ensure(log_->append(a->entry).has_value(), "cluster: log");
      handle(members_->appended(world_.now()));
    } else if (auto* d = std::get_if<membership_effect::decision>(&action))
      world_.note(d->text);
  }
}

/// Ticks, beats to the coordinator and suspicions over broken links, every 50 ms.
void cluster::ticks() {
  const time_point now = world_.now();
  for (auto& s : sites_) {
    if (!s->alive) continue;
    for (group_id g = 0; g < settings_.groups; ++g) handle(*s, g, s->groups[g].tick(now));
    proceed(*s);
    if (members_ && linked(s->id, coordinator_id)) handle(members_->heard(s->id, now));
    for (const epoch_member& m : s->view.members)
      if (m.site != s->id && !linked(s->id, m.site))
        send(s->id, coordinator_id, {message::suspect{m.site, m.incarnation, "silence"}, nullptr});
    if (members_ && linked(s->id, coordinator_id) && !s->stopped) {
      const auto status = members_->status();
      if (status[s->id].incarnation == s->incarnation && !status[s->id].alive)  // its link came back
        greet(*s);
      if (s->said_done && !status[s->id].done) send(s->id, coordinator_id, {message::leave{"finished", true}, nullptr});
    }
  }
  if (members_) handle(members_->tick(now));
  world_.after(std::chrono::milliseconds(50), [this] { ticks(); });
}

}  // namespace isthmus::testing
