#include "framework/rounds/membership.hpp"

#include "framework/core/planted.hpp"

#include <algorithm>

/// Why an epoch ends, and who is in the next one, with which cuts and homes.
namespace isthmus {

namespace {

const held_record* find(const std::vector<held_record>& held, group_id group) {
  for (const held_record& h : held)
    if (h.group == group && h.anchor_hash != hash128{}) return &h;
  return nullptr;
}

bool holds(const std::vector<held_record>& held, const group_cut& cut) {
  const held_record* h = find(held, cut.group);
  return h != nullptr && h->round == cut.round && h->record_hash == cut.record_hash && h->anchor_hash == cut.anchor_hash;
}

bool holds_all(const std::vector<held_record>& held, const std::vector<group_cut>& cuts) {
  return std::all_of(cuts.begin(), cuts.end(), [&](const group_cut& c) { return holds(held, c); });
}

}  // namespace

/// A record is void when the cut of a later epoch lies below it.
bool membership::is_void(const held_record& h) const {
  return std::any_of(past_cuts_.begin(), past_cuts_.end(), [&](const auto& past) {
    if (past.first <= h.epoch) return false;
    return std::any_of(past.second.begin(), past.second.end(), [&](const group_cut& c) { return c.group == h.group && c.round < h.round; });
  });
}

/// Only who holds at least the epoch's own cut of every group can vouch for what was committed in it.
bool membership::holds_cuts(const std::vector<held_record>& held) const {
  return std::all_of(view_.cuts.begin(), view_.cuts.end(), [&](const group_cut& c) {
    const held_record* h = find(held, c.group);
    return h != nullptr && !is_void(*h) && (h->round > c.round || holds(held, c));
  });
}

std::string membership::reason_to_change(time_point now) const {
  std::size_t vouching = 0, joining = 0;
  for (const epoch_member& m : view_.members) {
    const peer& p = peers_.at(m.site);
    const std::string name = "site " + std::to_string(m.site);
    if (!is_current(m)) {
      if (p.connected) return name + " came back as incarnation " + std::to_string(p.incarnation);
      return name + " is gone: " + p.why_gone;
    }
    if (!p.seen && now < started_ + settings_.roster_wait) continue;  // we have just been restarted ourselves
    if (!alive(p, now)) return name + " is gone: " + (p.seen ? p.why_gone : "it did not come back to this coordinator");
    (counts(m) ? vouching : joining) += 1;
  }
  for (const auto& [site, p] : peers_)
    if (alive(p, now) && member(site) == nullptr && joining + 1 <= std::max<std::size_t>(1, vouching > 0 ? vouching - 1 : 0))
      return "site " + std::to_string(site) + " joins";
  if (homes_are_uneven(now)) return "homes are spread again";
  return reason_to_change_spares();
}

bool membership::homes_are_uneven(time_point now) const {
  std::map<site_id, std::size_t> load;
  for (const epoch_member& m : view_.members)
    if (counts(m) && peers_.at(m.site).may_be_home && peers_.at(m.site).seen && alive(peers_.at(m.site), now)) load[m.site] = 0;
  for (const group_cut& c : view_.cuts)
    if (load.contains(c.home)) ++load[c.home];
  const auto by_load = [](const auto& a, const auto& b) { return a.second < b.second; };
  const auto [least, most] = std::minmax_element(load.begin(), load.end(), by_load);
  return !load.empty() && most->second - least->second >= 2;
}

epoch_view membership::successor(time_point now) const {
  epoch_view next;
  next.number = view_.number + 1;
  next.reason = change_->reason;
  next.cuts = choose_cuts(now);
  choose_members(next, now);
  choose_spares(next);
  choose_homes(next);
  return next;
}

/// Per group the highest record reported: by those that sealed; when nobody had to (the first epoch, or a restart), by all that came.
std::vector<group_cut> membership::choose_cuts(time_point now) const {
  std::vector<std::pair<site_id, const std::vector<held_record>*>> reports;
  for (const auto& [site, told] : change_->seals) reports.emplace_back(site, &told.held);
  const bool sealed_by_enough = view_.number > 0 && change_->seals.size() >= (view_.members.size() + 1) / 2;
  if (!sealed_by_enough) {
    for (const auto& [site, told] : change_->behind) reports.emplace_back(site, &told.held);
    for (const auto& [site, p] : peers_)
      if (alive(p, now) && !change_->seals.contains(site) && !change_->behind.contains(site)) reports.emplace_back(site, &p.held);
  }

  std::vector<group_cut> cuts;
  for (group_id g = 0; g < settings_.groups; ++g) {
    group_cut cut;
    cut.group = g;
    bool any = false;
    for (const auto& [site, held] : reports) {
      const held_record* h = find(*held, g);
      if (h == nullptr || is_void(*h)) continue;
      if (any && (is_planted(planted::cut_at_lowest) ? h->round >= cut.round : h->round <= cut.round)) continue;
      cut.round = h->round;
      cut.epoch = h->epoch;
      cut.record_hash = h->record_hash;
      cut.anchor_hash = h->anchor_hash;
      cut.holder = site;
      any = true;
    }
    if (!any) return {};
    cuts.push_back(cut);
  }
  // a holder that is alive, and the same for many groups: a joiner then copies from one place
  for (group_cut& cut : cuts) {
    for (const auto& [site, held] : reports) {
      const bool better = !alive(peers_.at(cut.holder), now) || (holds_all(*held, cuts) && site < cut.holder);
      if (holds(*held, cut) && alive(peers_.at(site), now) && better) cut.holder = site;
    }
  }
  return cuts;
}

/// Somebody alive must be able to hand on each cut's record, else the next epoch could never begin.
bool membership::cuts_are_held(time_point now) const {
  const auto cuts = choose_cuts(now);
  return !cuts.empty() && std::all_of(cuts.begin(), cuts.end(), [&](const group_cut& c) { return alive(peers_.at(c.holder), now); });
}

void membership::choose_members(epoch_view& next, time_point now) const {
  std::vector<epoch_member> joiners;
  for (const auto& [site, p] : peers_) {
    if (!alive(p, now)) continue;
    const epoch_member m{site, p.incarnation, false, 0};
    const auto behind = change_->behind.find(site);
    const auto& held = behind == change_->behind.end() ? p.held : behind->second.held;
    const bool vouches = change_->seals.contains(site) || holds_all(held, next.cuts);
    if (vouches)
      next.members.push_back(m);
    else
      joiners.push_back({site, p.incarnation, true, next.cuts.front().holder});
  }
  // those that stay must be able to seal without the joiners
  const auto is_holder = [&](const epoch_member& m) {
    return std::any_of(next.cuts.begin(), next.cuts.end(), [&](const group_cut& c) { return c.holder == m.site; });
  };
  const auto rank = [&](const epoch_member& m) { return is_holder(m) ? 0 : member(m.site) != nullptr ? 1 : 2; };
  std::stable_sort(joiners.begin(), joiners.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  std::size_t most = next.members.empty() ? joiners.size() : std::max<std::size_t>(1, next.members.size() - 1);
  most = std::max(most, static_cast<std::size_t>(std::count_if(joiners.begin(), joiners.end(), is_holder)));
  if (joiners.size() > most) joiners.resize(most);
  next.members.insert(next.members.end(), joiners.begin(), joiners.end());
  std::sort(next.members.begin(), next.members.end(), [](const auto& a, const auto& b) { return a.site < b.site; });
}

/// Of the sites that are no spares, those that are not in the epoch or have not caught up.
std::size_t membership::places_missing(const epoch_view& view) const {
  const auto of_the_roster = std::ranges::count_if(peers_, [](const auto& entry) { return !entry.second.spare; });
  const auto here = std::ranges::count_if(view.members, [&](const epoch_member& m) {
    const bool counting = &view == &view_ ? counts(m) : !m.joining;
    return counting && !peers_.at(m.site).spare;
  });
  return static_cast<std::size_t>(of_the_roster - here);
}

/// A spare trains for each missing site, those that do already first.
void membership::choose_spares(epoch_view& next) const {
  std::vector<epoch_member*> spares;
  for (epoch_member& m : next.members)
    if (peers_.at(m.site).spare) spares.push_back(&m);
  std::stable_partition(spares.begin(), spares.end(), [&](const epoch_member* m) {
    const epoch_member* before = member(m->site);
    return !m->joining && before != nullptr && !before->standing_by;
  });
  std::size_t places = places_missing(next);
  for (epoch_member* m : spares) {
    m->standing_by = m->joining || places == 0;
    if (!m->standing_by) --places;
  }
}

std::string membership::reason_to_change_spares() const {
  std::size_t training = 0;
  const epoch_member* idle = nullptr;
  for (const epoch_member& m : view_.members) {
    if (!peers_.at(m.site).spare || !counts(m)) continue;
    if (m.standing_by)
      idle = &m;
    else
      ++training;
  }
  const std::size_t places = places_missing(view_);
  if (places < training) return "a spare stands by again: nobody is missing";
  if (places > training && idle != nullptr) return "site " + std::to_string(idle->site) + " takes the place of a site that is missing";
  return {};
}

/// Even over those that may aggregate; a home that stays keeps its groups as far as balance allows.
void membership::choose_homes(epoch_view& next) const {
  std::map<site_id, std::size_t> load;
  for (const epoch_member& m : next.members)
    if (!m.joining && peers_.at(m.site).may_be_home) load[m.site] = 0;
  if (load.empty())
    for (const epoch_member& m : next.members)
      if (!m.joining) load[m.site] = 0;
  if (load.empty()) {
    for (group_cut& c : next.cuts) c.home = c.holder;
    return;
  }
  const std::size_t share = next.cuts.size() / load.size();
  std::size_t larger = next.cuts.size() % load.size();  // so many homes have one group more
  std::vector<group_cut*> homeless;
  for (group_cut& c : next.cuts) {
    const auto old = std::find_if(view_.cuts.begin(), view_.cuts.end(), [&](const group_cut& o) { return o.group == c.group; });
    const auto keeps = old == view_.cuts.end() ? load.end() : load.find(old->home);
    if (keeps != load.end() && (keeps->second < share || (keeps->second == share && larger > 0))) {
      if (keeps->second == share) --larger;
      c.home = keeps->first;
      ++keeps->second;
    } else {
      homeless.push_back(&c);
    }
  }
  for (group_cut* c : homeless) {
    const auto least = std::min_element(load.begin(), load.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    c->home = least->first;
    ++least->second;
  }
}

}  // namespace isthmus
