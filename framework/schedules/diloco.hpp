#pragma once

#include "framework/rounds/messages.hpp"

#include <cstdint>
#include <vector>

namespace isthmus {

/// When a site trains, contributes and waits under DiLoCo (Douillard et al. 2023, arXiv:2311.08105): H inner steps from the anchor, one
/// contribution to every unfinished group, then a wait until each group has moved on; the working weights start from the new anchor.
/// When a group's round has its quorum while we train, the period is cut short, so that what was trained so far comes in time; when it
/// closed without us all the same, that becomes residual, and the next period starts from the anchor that the others have. Pure: events
/// in, the next action out.
class diloco_schedule {
public:
  enum class action { wait, begin_period, train_step, contribute, finish };

  diloco_schedule(std::uint32_t groups, std::uint32_t inner_steps);

  /// The group's anchor stands at this round and may be copied to the working weights; finished: it takes no more rounds.
  void group_settled(group_id group, round_number round, bool finished);
  /// The group's anchor is being replaced or repaired: no period may begin.
  void group_unsettled(group_id group);
  /// A round is about to close, or has closed, without our contribution: the period should end after the step under way.
  void yield_asked();
  /// No step may begin until resume(): a drain, a checkpoint, a missing device.
  void pause() { paused_ = true; }
  void resume() { paused_ = false; }

  /// What to do now. Each action must be answered: begin_period by period_begun, train_step by step_done, contribute by contributed.
  action next() const;
  void period_begun();
  void step_done();
  void contributed();

  bool training() const { return phase_ == phase::training; }
  /// Between periods: the working weights equal the anchors or are about to.
  bool at_boundary() const { return phase_ == phase::settling; }
  std::uint32_t steps_in_period() const { return steps_; }

private:
  enum class phase { settling, training };
  struct group_state {
    bool settled = false, finished = false;
    round_number round = 0;
  };
  bool all_settled() const;
  bool all_finished() const;

  std::vector<group_state> groups_;
  std::uint32_t inner_steps_, steps_ = 0;
  phase phase_ = phase::settling;
  bool yield_ = false, paused_ = false;
};

}  // namespace isthmus
