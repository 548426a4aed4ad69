#pragma once

#include "framework/rounds/messages.hpp"

#include <cstdint>
#include <vector>

namespace isthmus {

/// When a site trains, contributes and waits under DiLoCo (Douillard et al. 2023, arXiv:2311.08105): H inner steps from the anchors, one
/// contribution to every group, then a wait until each has moved on; the working weights start from the new anchors.
///
/// Each group keeps the beat of its own rounds. One whose round is about to close while we train is handed in after the step under way, in
/// time; one whose round has closed without us is, too, and what was trained becomes residual. It is loaded anew and trained on at once,
/// and the period's end leaves it to the next one where it has less than half a period. When every group had a round of its own in the
/// period, the period is over. So sites that have lost step find it again. Pure: events in, the next action out.
class diloco_schedule {
public:
  enum class action { wait, load, begin_period, train_step, hand_in, finish };

  diloco_schedule(std::uint32_t groups, std::uint32_t inner_steps);

  /// The group's anchor may be copied to the working weights; finished: it takes no more rounds.
  void group_settled(group_id group, bool finished);
  /// The group's anchor is being replaced or repaired: no period may begin.
  void group_unsettled(group_id group);
  /// A round of this group waits for us: it goes in after the step under way.
  void round_closes(group_id group);
  /// It has: the group wants its anchor moved and goes in after the step under way.
  void round_closed(group_id group);
  /// No step may begin until resume(): a drain, a checkpoint, a missing device.
  void pause() { paused_ = true; }
  void resume() { paused_ = false; }

  /// What to do now, asked between steps. Each action must be answered: load by group_loaded for each group of to_load() (or by whatever
  /// makes that void), begin_period by period_begun, train_step by step_done, hand_in by handed_in for each group of to_hand_in().
  action next() const;
  /// Groups that are settled and whose anchors are not in the working weights.
  std::vector<group_id> to_load() const;
  std::vector<group_id> to_hand_in() const;
  void group_loaded(group_id group);
  void period_begun();
  void step_done();
  void handed_in(group_id group);

  bool training() const { return phase_ == phase::training; }
  /// Is the group's anchor in the working weights, with what was trained from it?
  bool holds(group_id group) const { return groups_.at(group).held; }
  std::uint32_t steps_in_period() const { return steps_; }

private:
  enum class phase { settling, training };
  struct group_state {
    bool settled = false, finished = false;
    bool held = false;        // in the working weights
    std::uint32_t steps = 0;  // since it was loaded
    bool closing = false, closed = false;
    bool round_ended = false;  // it was handed in in this period
  };
  bool is_due(const group_state& g) const;

  std::vector<group_state> groups_;
  std::uint32_t inner_steps_, steps_ = 0;
  phase phase_ = phase::settling;
  bool paused_ = false;
};

}  // namespace isthmus
