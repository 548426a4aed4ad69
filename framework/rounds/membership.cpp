#include "framework/rounds/membership.hpp"

#include "framework/core/planted.hpp"

#include <fmt/format.h>

#include <algorithm>

/// Events. The course of an epoch change: epoch_change.cpp. Who is in the next epoch, and from where: epoch_choice.cpp.
namespace isthmus {

using namespace membership_effect;

namespace {

std::string named(site_id site) { return "site " + std::to_string(site); }

}  // namespace

membership::membership(membership_settings settings, const std::vector<coordinator_entry>& log, time_point now)
    : settings_(std::move(settings)), started_(now) {
  ensure(!settings_.roster.empty() && settings_.groups > 0, "membership: needs a roster and groups");
  for (const auto& site : settings_.roster) {
    peers_[site.id].may_be_home = site.may_be_home;
    peers_[site.id].spare = site.spare;
    peers_[site.id].last_heard = now;
  }
  for (const coordinator_entry& entry : log) {
    if (entry.end)
      finished_ = true;
    else
      past_cuts_.emplace_back(entry.view.number, entry.view.cuts);
    view_ = entry.view;
    for (const epoch_member& m : entry.view.members) peers_[m.site].incarnation = std::max(peers_[m.site].incarnation, m.incarnation);
    for (const epoch_member& m : entry.ended) peers_[m.site].incarnation = std::max(peers_[m.site].incarnation, m.incarnation);
  }
}

const epoch_member* membership::member(site_id site) const {
  for (const epoch_member& m : view_.members)
    if (m.site == site) return &m;
  return nullptr;
}

bool membership::is_current(const epoch_member& m) const { return peers_.at(m.site).incarnation == m.incarnation; }

membership_actions membership::join(site_id site, const message::join& m, time_point now) {
  membership_actions out;
  if (deciding_) return out;
  const auto it = peers_.find(site);
  if (it == peers_.end()) {
    out.push_back(decision{named(site) + " is not in the roster: ignored"});
    return out;
  }
  peer& p = it->second;
  if (m.incarnation < p.incarnation || (m.incarnation == p.incarnation && p.left)) {
    out.push_back(decision{named(site) + " came as incarnation " + std::to_string(m.incarnation) + ", which has ended: ignored"});
    return out;
  }
  if (m.incarnation > p.incarnation) {  // what was said of the one before is not held against this one
    p.left = p.done = false;
    p.suspected_by.clear();
    p.barred_until = {};
  }
  if (!p.connected) {
    p.suspected_by.clear();
    p.connected_at = now;
  }
  p.incarnation = m.incarnation;
  p.connected = p.seen = true;
  p.last_heard = now;
  p.held = m.held;
  if (finished_) {
    out.push_back(send{site, message::stop_run{"the run is finished", true}});
    return out;
  }
  const epoch_member* current = member(site);
  if (current != nullptr && current->incarnation == m.incarnation) out.push_back(send{site, message::new_epoch{view_}});
  advance(now, out);
  return out;
}

membership_actions membership::heard(site_id site, time_point now) {
  if (const auto it = peers_.find(site); it != peers_.end()) it->second.last_heard = now;
  return {};
}

membership_actions membership::lost(site_id site, incarnation_number incarnation, const std::string& reason, time_point now) {
  membership_actions out;
  if (deciding_) return out;
  const auto it = peers_.find(site);
  if (it == peers_.end() || it->second.incarnation != incarnation || !it->second.connected) return out;
  it->second.connected = false;
  it->second.why_gone = reason;
  advance(now, out);
  return out;
}

membership_actions membership::suspect(site_id from, const message::suspect& m, time_point now) {
  membership_actions out;
  if (deciding_) return out;
  const auto it = peers_.find(m.peer);
  const epoch_member* by = member(from);
  if (it == peers_.end() || by == nullptr || from == m.peer || it->second.incarnation != m.incarnation) return out;
  if (!it->second.connected || now - it->second.connected_at < settings_.dead_after) return out;  // its links are still being made
  auto& s = it->second.suspected_by[from];
  if (now - s.last > 3 * settings_.dead_after / 2) s.first = now;
  s.last = now;
  it->second.why_gone = named(from) + " misses it: " + m.reason;
  take_suspicions(now);
  advance(now, out);
  return out;
}

/// Leaves a site out for a while when the others miss it although we do not.
void membership::take_suspicions(time_point now) {
  site_id worst = 0;
  std::size_t most = 0;
  std::size_t living = 0;
  for (const epoch_member& m : view_.members) living += alive(peers_.at(m.site), now) ? 1 : 0;
  for (auto& [site, p] : peers_) {
    std::erase_if(p.suspected_by,
                  [&](const auto& s) { return now - s.second.last > 3 * settings_.dead_after / 2 || !peers_.at(s.first).connected; });
    if (!p.connected || p.suspected_by.empty()) continue;
    const bool apart = std::any_of(p.suspected_by.begin(), p.suspected_by.end(),
                                   [&](const auto& s) { return s.second.last - s.second.first >= 2 * settings_.dead_after; });
    const bool majority = living > 2 && p.suspected_by.size() > (living - 1) / 2;
    if ((apart || majority) && p.suspected_by.size() >= most) {
      worst = site;
      most = p.suspected_by.size();
    }
  }
  if (most == 0) return;
  peers_.at(worst).barred_until = now + 5 * settings_.dead_after;
  for (auto& [site, p] : peers_) {
    p.suspected_by.erase(worst);
    if (site == worst) p.suspected_by.clear();
  }
}

membership_actions membership::sealed(site_id from, const message::sealed& m, time_point now) {
  membership_actions out;
  if (deciding_) return out;
  const epoch_member* who = member(from);
  if (finished_ || view_.number == 0 || m.epoch != view_.number || who == nullptr || !is_current(*who)) return out;
  if (!change_)  // a sealed member stores nothing more: what we began and forgot in a restart must be carried through
    begin_change("its end had begun before the coordinator was restarted", now, out);
  if (holds_cuts(m.held)) {
    change_->seals[from] = {who->incarnation, m.held};
    change_->behind.erase(from);
  } else {
    change_->behind[from] = {who->incarnation, m.held};  // it has not caught up: what it holds proves nothing about this epoch
  }
  advance(now, out);
  return out;
}

membership_actions membership::frozen(site_id from, const message::frozen& m, time_point now) {
  membership_actions out;
  if (deciding_ || !change_ || m.epoch != view_.number) return out;
  const auto it = peers_.find(from);
  const epoch_member* who = member(from);
  if (it == peers_.end() || !it->second.connected || (who != nullptr && is_current(*who))) return out;
  it->second.held = m.held;
  change_->behind[from] = {it->second.incarnation, m.held};
  advance(now, out);
  return out;
}

membership_actions membership::synced(site_id from, const message::synced& m, time_point now) {
  membership_actions out;
  if (deciding_) return out;
  if (m.epoch == view_.number && member(from) != nullptr) {
    if (synced_.insert(from).second) out.push_back(decision{named(from) + " has caught up"});
    advance(now, out);
  }
  return out;
}

membership_actions membership::leave(site_id from, const message::leave& m, time_point now) {
  membership_actions out;
  if (deciding_) return out;
  const auto it = peers_.find(from);
  if (it == peers_.end()) return out;
  if (m.finished) {
    it->second.done = true;
  } else {
    it->second.left = true;
    it->second.why_gone = "it left: " + m.reason;
  }
  finish_if_done(now, out);
  advance(now, out);
  return out;
}

membership_actions membership::report(site_id from, const message::report& m, time_point) {
  if (const auto it = peers_.find(from); it != peers_.end()) {
    it->second.last_report = m;
    it->second.done = false;
  }
  return {};
}

membership_actions membership::stop(const std::string& reason, time_point) {
  membership_actions out;
  if (deciding_) return out;
  for (const auto& [site, p] : peers_)
    if (p.connected) out.push_back(send{site, message::stop_run{reason, false}});
  return out;
}

void membership::finish_if_done(time_point now, membership_actions& out) {
  if (finished_ || deciding_ || view_.number == 0 || change_) return;
  bool any = false;
  for (const auto& [site, p] : peers_) {
    if (!alive(p, now)) continue;
    if (!p.done) return;  // who has just come back first copies the end
    any = true;
  }
  if (!any) return;
  deciding_.emplace();
  deciding_->view = view_;
  deciding_->end = true;
  out.push_back(append{*deciding_});
}

void membership::finish(membership_actions& out) {
  finished_ = true;
  for (const auto& [site, p] : peers_)
    if (p.connected) out.push_back(send{site, message::stop_run{"every group has its last round", true}});
  out.push_back(decision{"the run is finished: every live member says so"});
  out.push_back(finished{"every group has its last round"});
}

membership_actions membership::appended(time_point now) {
  ensure(deciding_.has_value(), "membership: appended() without an append");
  membership_actions out;
  const coordinator_entry entry = std::move(*deciding_);
  deciding_.reset();
  if (entry.end) {
    finish(out);
  } else {
    enter(entry, out);
    advance(now, out);
  }
  return out;
}

membership_actions membership::tick(time_point now) {
  membership_actions out;
  if (deciding_) return out;
  for (auto& [site, p] : peers_) {
    if (!p.connected || now - p.last_heard <= settings_.dead_after) continue;
    p.connected = false;
    p.why_gone = fmt::format("nothing was heard of it for {:.1f} s", to_seconds(now - p.last_heard));
    if (!is_planted(planted::ignore_silence)) out.push_back(close{site, p.why_gone});
  }
  take_suspicions(now);
  finish_if_done(now, out);
  advance(now, out);
  return out;
}

void membership::advance(time_point now, membership_actions& out) {
  if (finished_ || deciding_) return;
  if (view_.number == 0) return begin_first(now, out);
  if (!change_) {
    const std::string reason = reason_to_change(now);
    if (reason.empty()) return;
    begin_change(reason, now, out);
  }
  advance_change(now, out);
}

std::vector<site_status> membership::status() const {
  std::vector<site_status> all;
  for (const auto& [site, p] : peers_) {
    const epoch_member* m = member(site);
    const bool in = m != nullptr && m->incarnation == p.incarnation;
    all.push_back({site, p.incarnation, p.connected && !p.left, in, in && !counts(*m), p.done, p.last_report.step, p.last_report.tokens,
                   p.last_report.loss, p.last_report.tokens_per_second});
  }
  return all;
}

}  // namespace isthmus
