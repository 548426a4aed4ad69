#include "tests/framework/rounds/cluster_state.hpp"

#include <algorithm>

namespace isthmus::testing {

/// What a coordinator must hear of us over a new link: it may have been restarted.
void cluster::greet(site_state& s) {
  send(s.id, coordinator_id, {message::join{s.incarnation, held(s)}, nullptr});
  if (s.view.number == 0) return;
  if (s.said_synced == s.view.number) send(s.id, coordinator_id, {message::synced{s.view.number}, nullptr});
  if (s.sealed == s.view.number) say_sealed(s);
}

void cluster::say_sealed(site_state& s) {
  message::sealed answer{s.view.number, {}};
  for (parameter_group& g : s.groups)
    if (auto h = g.seal(s.view.number)) answer.held.push_back(*h);
  if (answer.held.size() != s.groups.size()) return;
  s.sealed = s.view.number;
  s.said_held = answer.held;
  send(s.id, coordinator_id, {answer, nullptr});
}

void cluster::at_site(site_state& s, site_id from, incarnation_number incarnation, const envelope& what) {
  const time_point now = world_.now();
  if (const auto* e = std::get_if<message::new_epoch>(&what.body)) {
    enter(s, e->view);
  } else if (const auto* seal = std::get_if<message::seal>(&what.body)) {
    if (seal->epoch == s.view.number) say_sealed(s);
  } else if (const auto* freeze = std::get_if<message::freeze>(&what.body)) {
    message::frozen answer{freeze->epoch, {}};
    for (parameter_group& g : s.groups)
      if (const auto h = g.freeze(freeze->epoch)) answer.held.push_back(*h);
    if (answer.held.size() == s.groups.size()) send(s.id, coordinator_id, {answer, nullptr});
  } else if (const auto* y = std::get_if<message::synced>(&what.body)) {
    for (group_id g = 0; g < settings_.groups; ++g) handle(s, g, s.groups[g].peer_synced(from, y->epoch, now));
  } else if (std::holds_alternative<message::stop_run>(what.body)) {
    if (!s.stopped && s.leases) write(s, s.leases->write_off(), "the run ended");
    if (!s.stopped && s.said_done) write(s, ledger::ended("finished"));  // who came too late has not finished anything
    s.stopped = true;
  } else {
    const auto group_of = [](const auto& m) -> group_id {
      if constexpr (requires { m.group; })
        return m.group;
      else if constexpr (requires { m.record.group; })
        return m.record.group;
      else
        return 0;
    };
    const group_id g = std::visit(group_of, what.body);
    handle(s, g, s.groups[g].receive(from, incarnation, what, now));
  }
  if (s.alive && s.view.number > 0 && s.sealed == s.view.number && held(s) != s.said_held) say_sealed(s);
  proceed(s);
}

void cluster::enter(site_state& s, const epoch_view& view) {
  const auto me = std::find_if(view.members.begin(), view.members.end(),
                               [&](const auto& m) { return m.site == s.id && m.incarnation == s.incarnation; });
  if (view.number <= s.view.number) return;
  s.view = view;
  if (me == view.members.end()) return greet(s);
  for (group_id g = 0; g < settings_.groups; ++g) handle(s, g, s.groups[g].enter_epoch(view, world_.now()));
}

void cluster::handle(site_state& s, group_id g, group_actions actions) {
  contribution_book& book = *s.books[g];
  for (auto& action : actions) {
    if (!s.alive) return;
    const round_number round = s.groups[g].round();
    if (auto* x = std::get_if<group_effect::send>(&action)) {
      send(s.id, x->to, std::move(x->what));
    } else if (auto* l = std::get_if<group_effect::ledger_line>(&action)) {
      write(s, l->json);
    } else if (auto* a = std::get_if<group_effect::applied>(&action)) {
      const step_number step = s.groups[g].watermarks().of(s.id).step;
      if (a->mine) write(s, a->vetoed ? book.discarded(a->record.round) : book.counted(a->record.round));
      if (s.leases) write(s, a->vetoed ? s.leases->veto(g, step, a->leases) : s.leases->commit(g, step), "vetoed");
    } else if (auto* drawn = std::get_if<group_effect::audit>(&action)) {
      s.groups[g].audited(drawn->meta.site, drawn->round, settings_.audit_finds(drawn->meta.site));
    } else if (std::get_if<group_effect::frame_lost>(&action)) {
      write(s, book.lost(round));
    } else if (auto* b = std::get_if<group_effect::rolled_back>(&action)) {
      book.roll_back(b->step);
      s.said_done = false;
      if (s.leases) write(s, s.leases->roll_back(g, b->step, b->leases), "their records are void");
    } else if (auto* r = std::get_if<group_effect::residual_returned>(&action)) {
      write(s, book.add(round, r->values->span()));
    }
  }
}

/// What the supervisor and the trainer do whenever something has changed.
void cluster::proceed(site_state& s) {
  if (!s.alive || s.stopped || s.view.number == 0) return;
  for (const parameter_group& g : s.groups)
    if (!g.is_settled() || g.epoch() != s.view.number) return;
  for (const epoch_member& me : s.view.members) {
    if (me.site != s.id || !me.joining || s.said_synced == s.view.number) continue;
    s.said_synced = s.view.number;
    send(s.id, coordinator_id, {message::synced{s.view.number}, nullptr});
    for (const epoch_member& m : s.view.members)
      if (m.site != s.id) send(s.id, m.site, {message::synced{s.view.number}, nullptr});
  }
  if (!s.recovered) recover_accounts(s);
  if (s.training) return;
  bool done = true;
  for (const parameter_group& g : s.groups) {
    if (g.has_frame_in_flight()) return;
    done = done && g.finished();
  }
  if (done) {
    if (!s.said_done) send(s.id, coordinator_id, {message::leave{"finished", true}, nullptr});
    s.said_done = true;
    return;
  }
  begin_period(s);
}

/// Where a started process goes on: from its groups' watermarks, with what its disk still has.
void cluster::recover_accounts(site_state& s) {
  s.recovered = true;
  s.leases.emplace(s.id, samples, settings_.groups);
  if (s.saved)
    if (auto old = lease_book::from_json(s.saved->leases, "checkpoint")) s.leases = std::move(*old);
  std::vector<std::vector<lease>> named;
  for (group_id g = 0; g < settings_.groups; ++g) {
    const contributor mark = s.groups[g].watermarks().of(s.id);
    named.push_back(mark.leases);
    s.step = std::max(s.step, mark.step);
    write(s, s.books[g]->restore(s.saved ? &s.saved->books[g] : nullptr, mark.step, s.groups[g].round()));
  }
  write(s, s.leases->recover(named), "restart");
}

void cluster::begin_period(site_state& s) {
  s.training = true;
  s.period_leases.clear();
  s.start.clear();
  s.start_round.clear();
  for (std::uint32_t i = 0; i < steps_per_period; ++i) {
    for (const lease& l : s.leases->grant(tokens_per_step, ++s.step)) {
      write(s, ledger::granted(s.step, l));
      s.period_leases.push_back(l);
    }
  }
  s.working.clear();
  for (group_id g = 0; g < settings_.groups; ++g) {
    const auto anchor = s.groups[g].anchor();
    s.start.emplace_back(anchor.begin(), anchor.end());
    s.start_round.push_back(s.groups[g].round());
    rng r(settings_.seed + g, s.id, s.step, draw::sampling);
    s.working.push_back(s.start.back());
    for (float& w : s.working.back()) w += static_cast<float>(static_cast<int>(r.below(33)) - 16) * 0.125F;
    if (settings_.spoil) settings_.spoil(s.id, g, s.start.back(), s.working.back());
  }
  const std::uint64_t period = ++s.period;
  const auto time = duration(static_cast<duration::rep>(draws_.below(static_cast<std::uint64_t>(settings_.train_max.count()) + 1)));
  world_.after(time, [this, &s, period, incarnation = s.incarnation] {
    if (s.alive && !s.stopped && s.incarnation == incarnation && s.period == period) end_period(s);
  });
}

void cluster::end_period(site_state& s) {
  s.training = false;
  for (group_id g = 0; g < settings_.groups; ++g) {
    parameter_group& group = s.groups[g];
    if (group.finished()) {
      write(s, *s.books[g]->keep_late(s.start_round[g] + 1, s.start[g], s.working[g], s.step, reference, s.period_leases));
      continue;
    }
    if (group.round() != s.start_round[g] || !group.is_settled()) {
      write(s, *s.books[g]->keep_late(s.start_round[g] + 1, s.start[g], s.working[g], s.step, reference, s.period_leases));
      continue;
    }
    auto formed = *s.books[g]->form(s.start_round[g] + 1, s.start[g], s.working[g], s.step, reference, s.period_leases);
    write(s, formed.ledger_line);
    handle(s, g, group.local_contribution(s.start_round[g] + 1, formed.frame, formed.meta, world_.now()));
    if (!s.alive) return;
  }
  if (draws_.uniform() < 0.3) save_checkpoint(s.id);
  proceed(s);
}

void cluster::save_checkpoint(site_id site) {
  site_state& s = *sites_[site];
  if (!s.alive || !s.recovered || s.training) return;
  auto c = std::make_unique<checkpoint>();
  for (group_id g = 0; g < settings_.groups; ++g) {
    if (!s.groups[g].is_settled()) return;
    c->groups.push_back(s.groups[g].snapshot());
    c->books.push_back(s.books[g]->snapshot(s.groups[g].round()));
  }
  c->leases = s.leases->to_json();
  c->step = s.step;
  s.saved = std::move(c);
}

}  // namespace isthmus::testing
