#include "framework/schedules/diloco.hpp"

#include "framework/core/error.hpp"

#include <algorithm>

namespace isthmus {

diloco_schedule::diloco_schedule(std::uint32_t groups, std::uint32_t inner_steps) : groups_(groups), inner_steps_(inner_steps) {
  ensure(groups > 0 && inner_steps > 0, "diloco_schedule: needs groups and inner steps");
}

bool diloco_schedule::all_settled() const {
  return std::all_of(groups_.begin(), groups_.end(), [](const group_state& g) { return g.settled; });
}
bool diloco_schedule::all_finished() const {
  return std::all_of(groups_.begin(), groups_.end(), [](const group_state& g) { return g.finished; });
}

void diloco_schedule::group_settled(group_id group, round_number round, bool finished) {
  ensure(group < groups_.size(), "diloco_schedule: unknown group");
  groups_[group] = {true, finished, round};
}

void diloco_schedule::group_unsettled(group_id group) {
  ensure(group < groups_.size(), "diloco_schedule: unknown group");
  groups_[group].settled = false;
}

void diloco_schedule::yield_asked() {
  if (phase_ == phase::training) yield_ = true;
}

diloco_schedule::action diloco_schedule::next() const {
  if (phase_ == phase::settling) {
    if (!all_settled()) return action::wait;
    if (all_finished()) return action::finish;
    return paused_ ? action::wait : action::begin_period;
  }
  if (yield_ || steps_ >= inner_steps_) return action::contribute;
  return paused_ ? action::wait : action::train_step;
}

void diloco_schedule::period_begun() {
  ensure(phase_ == phase::settling && all_settled(), "diloco_schedule: a period began before every group had settled");
  phase_ = phase::training;
  steps_ = 0;
  yield_ = false;
}

void diloco_schedule::step_done() {
  ensure(phase_ == phase::training, "diloco_schedule: a step outside a period");
  ++steps_;
}

void diloco_schedule::contributed() {
  ensure(phase_ == phase::training, "diloco_schedule: a contribution outside a period");
  phase_ = phase::settling;
  for (auto& group : groups_) group.settled = group.finished;
}

}  // namespace isthmus
