#include "framework/schedules/diloco.hpp"

#include "framework/core/error.hpp"

#include <algorithm>

namespace isthmus {

namespace {

template <class Groups, class Holds>
std::vector<group_id> which(const Groups& groups, Holds holds) {
  std::vector<group_id> out;
  for (group_id g = 0; g < groups.size(); ++g)
    if (holds(groups[g])) out.push_back(g);
  return out;
}

}  // namespace

diloco_schedule::diloco_schedule(std::uint32_t groups, std::uint32_t inner_steps) : groups_(groups), inner_steps_(inner_steps) {
  ensure(groups > 0 && inner_steps > 0, "diloco_schedule: needs groups and inner steps");
}

void diloco_schedule::group_settled(group_id group, bool finished) {
  ensure(group < groups_.size(), "diloco_schedule: unknown group");
  groups_[group].settled = true;
  groups_[group].finished = finished;
}

void diloco_schedule::group_unsettled(group_id group) {
  ensure(group < groups_.size(), "diloco_schedule: unknown group");
  groups_[group].settled = false;
  if (phase_ == phase::settling || groups_[group].held) return;
  for (auto& other : groups_) other.closing = other.held;  // a copy takes its time: what has been trained does not wait for it
}

void diloco_schedule::round_closes(group_id group) { groups_.at(group).closing = groups_.at(group).held; }
void diloco_schedule::round_closed(group_id group) { groups_.at(group).closed = groups_.at(group).held; }

bool diloco_schedule::is_due(const group_state& g) const {
  const bool period_ends = phase_ == phase::training && steps_ >= inner_steps_ && (2 * g.steps >= inner_steps_ || g.finished);
  return g.held && (g.closed || g.closing || period_ends);
}

std::vector<group_id> diloco_schedule::to_hand_in() const {
  return which(groups_, [&](const group_state& g) { return is_due(g); });
}

std::vector<group_id> diloco_schedule::to_load() const {
  return which(groups_, [](const group_state& g) { return g.settled && !g.held; });
}

diloco_schedule::action diloco_schedule::next() const {
  if (std::ranges::any_of(groups_, [&](const group_state& g) { return is_due(g); })) return action::hand_in;
  const bool training = phase_ == phase::training;
  // What a group that is in the working weights has to wait for does not hinder training, but no period begins meanwhile.
  if (!std::ranges::all_of(groups_, [&](const group_state& g) { return g.settled || (training && g.held); })) return action::wait;
  const bool all_held = std::ranges::all_of(groups_, &group_state::held);
  if (training) return !all_held ? action::load : paused_ ? action::wait : action::train_step;
  if (std::ranges::all_of(groups_, &group_state::finished)) return all_held ? action::finish : action::load;
  if (paused_) return action::wait;
  return all_held ? action::begin_period : action::load;
}

void diloco_schedule::group_loaded(group_id group) { groups_.at(group).held = true; }

void diloco_schedule::period_begun() {
  ensure(phase_ == phase::settling && std::ranges::all_of(groups_, [](const group_state& g) { return g.settled && g.held; }),
         "diloco_schedule: a period began before every group had settled");
  phase_ = phase::training;
  steps_ = 0;
  for (auto& group : groups_) group.round_ended = false;
}

void diloco_schedule::step_done() {
  ensure(phase_ == phase::training, "diloco_schedule: a step outside a period");
  ++steps_;
  for (auto& group : groups_) ++group.steps;
}

void diloco_schedule::handed_in(group_id group) {
  auto& g = groups_.at(group);
  ensure(g.held, "diloco_schedule: a group was handed in that is not here");
  g = {.settled = g.finished, .finished = g.finished, .round_ended = true};
  const bool over = steps_ >= inner_steps_ || std::ranges::all_of(groups_, [](const auto& one) { return one.round_ended || one.finished; });
  if (over && to_hand_in().empty()) phase_ = phase::settling;
}

}  // namespace isthmus
