#include "framework/rounds/membership.hpp"

#include "framework/core/planted.hpp"
#include "framework/core/rare.hpp"

#include <fmt/format.h>

#include <algorithm>

/// The course of an epoch change: seals are asked for until they are enough, then the next epoch is put to the log and entered.
namespace isthmus {

using namespace membership_effect;

namespace {

rare_site hurries("an epoch ends with the first seals that are enough");

/// By whom the epoch before was ended, and how many that takes. The first epoch ends none.
std::string how_ended(const coordinator_entry& entry, std::size_t members) {
  if (members == 0) return {};
  const char* kind = entry.restart ? "a restart, " : "";
  return fmt::format("; {}sealed by {} of {} members, {} are enough", kind, entry.sealed.size(), members, (members + 1) / 2);
}

}  // namespace

void membership::begin_change(const std::string& reason, time_point now, membership_actions& out) {
  change_ = change{reason, {}, {}, {}, now};
  out.push_back(decision{"epoch " + std::to_string(view_.number) + " ends: " + reason});
}

void membership::begin_first(time_point now, membership_actions& out) {
  std::size_t living = 0;
  for (const auto& [site, p] : peers_) living += alive(p, now) ? 1 : 0;
  const std::size_t least = settings_.min_sites > 0 ? settings_.min_sites : settings_.roster.size() / 2 + 1;
  const time_point patience = started_ + settings_.roster_wait;
  if (living == settings_.roster.size() || (now >= patience && living >= least)) {
    change_ = change{
        "the run begins with " + std::to_string(living) + " of " + std::to_string(settings_.roster.size()) + " sites", {}, {}, {}, now};
    if (cuts_are_held(now)) return conclude(false, now, out);
    change_.reset();
    out.push_back(decision{"no site has any state: the run cannot begin"});
  } else if (now < patience) {
    out.push_back(wake_at{patience});
  }
}

void membership::advance_change(time_point now, membership_actions& out) {
  if (now >= change_->next_sending) send_seals(now, out);
  for (auto* answers : {&change_->seals, &change_->behind})  // what an ended incarnation held is gone with it
    std::erase_if(*answers, [&](const auto& e) { return e.second.incarnation != peers_.at(e.first).incarnation; });
  bool all_living = true, all_accounted = true, anybody = false, all_told = true;
  for (const epoch_member& m : view_.members) {
    const peer& p = peers_.at(m.site);
    const bool has_sealed = change_->seals.contains(m.site);
    if (is_current(m) && alive(p, now) && !has_sealed) all_living = false;
    if (!has_sealed && !change_->behind.contains(m.site) && is_current(m)) all_accounted = false;
  }
  for (const auto& [site, p] : peers_) {
    anybody = anybody || alive(p, now);
    if (alive(p, now) && !change_->seals.contains(site) && !change_->behind.contains(site)) all_told = false;
  }
  if (!anybody || !cuts_are_held(now)) return;
  const std::size_t fewer = is_planted(planted::seal_below_half) ? 1 : 0;
  if (change_->seals.size() + fewer >= (view_.members.size() + 1) / 2) {
    if (!change_->enough_since) change_->enough_since = now;
    const time_point patience = *change_->enough_since + settings_.seal_wait;
    if (all_living || now >= patience || hurries()) return conclude(false, now, out);
    out.push_back(wake_at{patience});
  } else if (all_accounted && all_told &&
             (now >= started_ + settings_.roster_wait ||
              std::all_of(peers_.begin(), peers_.end(), [&](const auto& e) { return alive(e.second, now); }))) {
    conclude(true, now, out);
  }
}

void membership::send_seals(time_point now, membership_actions& out) {
  const bool again = now != change_->next_sending;
  for (const epoch_member& m : view_.members) {
    if (!is_current(m) || !peers_.at(m.site).connected || change_->seals.contains(m.site)) continue;
    if (again) out.push_back(send{m.site, message::new_epoch{view_}});  // it cannot seal what it has not entered
    out.push_back(send{m.site, message::seal{view_.number}});
  }
  ask_outsiders(out);
  change_->next_sending = now + settings_.retry;
  out.push_back(wake_at{change_->next_sending});
}

/// When too few members are left to end the epoch: the next one starts from the best of what anybody has now.
void membership::ask_outsiders(membership_actions& out) const {
  std::size_t able = 0;
  for (const epoch_member& m : view_.members)
    able += is_current(m) && peers_.at(m.site).connected && !change_->behind.contains(m.site) ? 1 : 0;
  if (able >= (view_.members.size() + 1) / 2) return;
  for (const auto& [site, p] : peers_) {
    const epoch_member* m = member(site);
    if (p.connected && !p.left && (m == nullptr || !is_current(*m)) && !change_->behind.contains(site))
      out.push_back(send{site, message::freeze{view_.number}});
  }
}

void membership::conclude(bool restart, time_point now, membership_actions& out) {
  coordinator_entry entry;
  entry.view = successor(now);
  entry.restart = restart;
  for (const auto& [site, told] : change_->seals) entry.sealed.push_back(site);
  if (restart)
    for (const auto& [site, told] : change_->behind)
      if (const epoch_member* m = member(site); m != nullptr && is_current(*m)) entry.sealed.push_back(site);
  for (const epoch_member& m : view_.members)
    if (!is_current(m)) entry.ended.push_back({m.site, peers_.at(m.site).incarnation, false, 0});
  deciding_ = entry;
  out.push_back(append{std::move(entry)});
}

void membership::enter(const coordinator_entry& entry, membership_actions& out) {
  if (entry.restart)
    for (auto& [site, p] : peers_) p.done = false;  // the end that it had seen may be void
  const std::string ended = how_ended(entry, view_.members.size());
  view_ = entry.view;
  past_cuts_.emplace_back(view_.number, view_.cuts);
  change_.reset();
  synced_.clear();
  std::string names;
  for (const epoch_member& m : view_.members) {
    names += (names.empty() ? "" : ", ") + std::to_string(m.site) + (m.joining ? " (joining)" : m.standing_by ? " (standing by)" : "");
    out.push_back(send{m.site, message::new_epoch{view_}});
  }
  out.push_back(decision{"epoch " + std::to_string(view_.number) + " of sites " + names + ": " + view_.reason + ended});
}

}  // namespace isthmus
