#include "actors/trainer.hpp"

#include "actors/messages.hpp"
#include "actors/spread.hpp"
#include "framework/core/clock.hpp"
#include "framework/core/error.hpp"
#include "framework/optim/adamw.hpp"
#include "framework/schedules/diloco.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

namespace isthmus::actors {

/// A step has had its rest.
struct rested {
  std::uint64_t ticket;
};

}  // namespace isthmus::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(isthmus::actors::rested)

namespace isthmus::actors {

namespace {

/// What the devices are doing for the ticket under way; from leasing on a step.
enum class work { none, loading, evaluating, saving, leasing, gradient, reduction, update, resting };

struct trainer_state {
  trainer_settings settings;
  caf::actor owner, shard, metrics;
  std::vector<caf::actor> groups;
  std::map<std::uint32_t, caf::actor> devices;  // alive, by index
  std::optional<diloco_schedule> schedule;

  work doing = work::none;
  std::uint64_t ticket = 0;
  std::map<std::uint32_t, row_range> pending;         // device -> what it works on
  bool broken = false;                                // a device died in this phase: it is begun again when the others have answered
  std::map<std::uint32_t, gradient_array> gradients;  // the parts of this step's gradient that are done, by device
  rows_leased rows;
  time_point step_began{};
  double loss_sum = 0, squares = 0, gradient_norm = 0, rate = 0;

  step_number step = 0;
  std::vector<train_result> trained;        // per group, since its anchor was loaded
  std::vector<std::uint64_t> tokens_total;  // per group, at its anchor
  std::vector<round_number> rounds;
  std::size_t loads_missing = 0;
  round_number evaluated_at = 0, saved_at = 0;
  bool evaluated_once = false, save_asked = false, drain_asked = false, drain_saved = false, final_save = false, told_finished = false,
       stands_by = false;
};
using trainer_actor = caf::stateful_actor<trainer_state>;

void drive(trainer_actor* self);

/// Starts a phase of the ticket on every device that gets a part.
template <class Make>
void start(trainer_actor* self, work what, std::map<std::uint32_t, row_range> parts, Make make) {
  auto& s = self->state;
  s.doing = what;
  s.pending = std::move(parts);
  for (const auto& [device, part] : s.pending) self->send(s.devices.at(device), make(device, part));
}

void begin_gradient(trainer_actor* self, bool again = false) {
  auto& s = self->state;
  s.loss_sum = 0;
  const double scale = 1.0 / static_cast<double>(s.rows.rows * s.settings.context);
  s.gradients.clear();
  start(self, work::gradient, spread(s.devices, s.rows.rows), [&](std::uint32_t, row_range part) {
    return compute_gradient{s.ticket, s.rows.ids, part, scale, again};
  });
}

void begin_reduction(trainer_actor* self) {
  auto& s = self->state;
  s.squares = 0;
  std::vector<gradient_array> all;
  for (const auto& [device, gradients] : s.gradients) all.push_back(gradients);
  start(self, work::reduction, spread(s.devices, s.settings.layout_size, 4096), [&](std::uint32_t, row_range part) {
    return reduce_slice{s.ticket, all, part};
  });
}

void begin_update(trainer_actor* self) {
  auto& s = self->state;
  s.gradient_norm = std::sqrt(s.squares);
  const double scale = static_cast<double>(clip_scale(s.squares, s.settings.clip_norm));
  const auto in_period = static_cast<std::uint64_t>(s.schedule->steps_in_period() * s.settings.rows_per_step * s.settings.context);
  const std::uint64_t done = *std::min_element(s.tokens_total.begin(), s.tokens_total.end()) + in_period * s.settings.sites;
  s.rate = s.settings.learning_rate.learning_rate(static_cast<std::int64_t>(done));
  const gradient_array sum = s.gradients.begin()->second;
  start(self, work::update, spread(s.devices, s.settings.layout_size, 4096),
        [&](std::uint32_t, row_range part) { return update_slice{s.ticket, sum, part, s.rate, scale, s.step + 1}; });
}

void end_step(trainer_actor* self) {
  auto& s = self->state;
  const auto tokens = static_cast<std::uint64_t>(s.rows.rows * s.settings.context);
  ++s.step;
  for (auto& part : s.trained) {
    part.tokens += tokens;
    part.leases.insert(part.leases.end(), s.rows.leases.begin(), s.rows.leases.end());
  }
  s.doing = work::none;
  s.gradients.clear();
  s.schedule->step_done();
  const step_sample sample{s.step,          tokens, s.loss_sum / static_cast<double>(tokens),
                           s.gradient_norm, s.rate, to_seconds(self->clock().now() - s.step_began),
                           s.rounds.front()};
  self->send(s.metrics, sample);
  self->send(s.owner, sample);
  drive(self);
}

void rest(trainer_actor* self) {
  auto& s = self->state;
  const auto left = s.settings.rest ? s.settings.rest(self->clock().now() - s.step_began) : duration{};
  if (left <= duration{}) return end_step(self);
  s.doing = work::resting;
  self->delayed_send(self, left, rested{s.ticket});
}

/// A device died inside a phase: the evaluation, or the step from its gradient on, is done again by those that live.
void begin_again(trainer_actor* self) {
  auto& s = self->state;
  s.broken = false;
  if (s.doing == work::evaluating) {
    s.doing = work::none;
    s.evaluated_once = false;
    return drive(self);
  }
  ++s.ticket;
  s.doing = work::gradient;
  if (!s.devices.empty()) begin_gradient(self, true);  // else: when a device is back
}

/// One device's part of the phase under way is done; when it was the last, the next phase begins.
void part_done(trainer_actor* self, std::uint32_t device, std::uint64_t ticket, work of) {
  auto& s = self->state;
  if (ticket != s.ticket || s.doing != of || s.pending.erase(device) == 0 || !s.pending.empty()) return;
  if (s.broken) return begin_again(self);
  switch (of) {
    case work::gradient: return begin_reduction(self);
    case work::reduction: return begin_update(self);
    case work::update: return rest(self);
    case work::evaluating: {
      const auto tokens = static_cast<std::uint64_t>(s.settings.held_out_rows * s.settings.context);
      s.doing = work::none;
      self->send(s.metrics, evaluation_sample{s.rounds.front(), s.tokens_total.front(), s.loss_sum / static_cast<double>(tokens), tokens});
      return drive(self);
    }
    default: return;
  }
}

void begin_evaluation(trainer_actor* self) {
  auto& s = self->state;
  ++s.ticket;
  s.loss_sum = 0;
  s.evaluated_at = s.rounds.front();
  s.evaluated_once = true;
  start(self, work::evaluating, spread(s.devices, s.settings.held_out_rows), [&](std::uint32_t, row_range part) {
    return evaluate_rows{s.ticket, s.settings.held_out, part};
  });
}

bool evaluation_is_due(const trainer_state& s, bool finishing) {
  if (s.settings.evaluation_every_rounds == 0 || s.settings.held_out_rows == 0) return false;
  if (!s.evaluated_once) return true;
  return finishing ? s.evaluated_at != s.rounds.front() : s.rounds.front() >= s.evaluated_at + s.settings.evaluation_every_rounds;
}

bool save_is_due(const trainer_state& s, bool finishing) {
  if (s.save_asked || (s.drain_asked && !s.drain_saved) || (finishing && !s.final_save)) return true;
  return s.settings.checkpoint_every_rounds > 0 && s.rounds.front() >= s.saved_at + s.settings.checkpoint_every_rounds;
}

/// The group gets back its part of the weights. keep: no round of it is due.
void give_back(trainer_actor* self, group_id group, bool keep) {
  auto& s = self->state;
  auto what = std::exchange(s.trained[group], {});
  what.step = s.step;
  s.schedule->handed_in(group);
  self->send(s.groups[group], contribute{std::move(what), keep});
}

void give_back_what_is_due(trainer_actor* self) {
  for (const group_id group : self->state.schedule->to_hand_in()) give_back(self, group, false);
}

/// What has been trained for rounds to come goes to the residuals, so that all weights are anchors. False when there is no such thing.
bool keep_what_is_trained(trainer_actor* self) {
  auto& s = self->state;
  bool any = false;
  for (group_id group = 0; group < s.groups.size(); ++group) {
    if (s.trained[group].tokens == 0) continue;
    give_back(self, group, true);
    any = true;
  }
  return any;
}

void load(trainer_actor* self) {
  auto& s = self->state;
  const auto groups = s.schedule->to_load();
  s.doing = work::loading;
  s.loads_missing = groups.size();
  for (const group_id group : groups) self->send(s.groups[group], load_anchor{});
}

/// Between periods: whatever is due there is done, then a period begins or the run ends.
void at_boundary(trainer_actor* self, bool finishing) {
  auto& s = self->state;
  if (s.devices.empty()) return;
  const bool evaluating = evaluation_is_due(s, finishing);
  if ((evaluating || save_is_due(s, finishing)) && keep_what_is_trained(self)) return;
  if (evaluating) return begin_evaluation(self);
  if (save_is_due(s, finishing)) {
    s.doing = work::saving;
    s.saved_at = s.rounds.front();
    s.final_save = s.final_save || finishing;
    s.save_asked = false;
    s.drain_saved = s.drain_asked;
    self->send(s.owner, save_boundary{s.step, s.rounds.front(), s.tokens_total.front(), finishing || s.drain_asked});
    return;
  }
  if (finishing) {
    if (!s.told_finished) self->send(s.owner, run_finished{});
    s.told_finished = true;
    return;
  }
  if (s.drain_asked) return;  // saved; the owner ends us
  if (s.stands_by) return;    // from an anchor that moves on with the others' rounds, ready to begin
  s.schedule->period_begun();
  drive(self);
}

void drive(trainer_actor* self) {
  auto& s = self->state;
  if (s.doing != work::none) return;
  switch (s.schedule->next()) {
    case diloco_schedule::action::wait: return;
    case diloco_schedule::action::begin_period: return at_boundary(self, false);
    case diloco_schedule::action::finish: return at_boundary(self, true);
    case diloco_schedule::action::load: return load(self);
    case diloco_schedule::action::hand_in: give_back_what_is_due(self); return drive(self);
    case diloco_schedule::action::train_step:
      if (s.devices.empty()) return;
      s.doing = work::leasing;
      s.step_began = self->clock().now();
      self->send(s.shard, want_rows{++s.ticket, s.step + 1, s.settings.rows_per_step});
      return;
  }
}

/// What a device had finished counts, whatever becomes of it. Of the others each writes its own gradients while these are computed, so
/// that the step begins again at once and they drop what they are doing; in a reduction they write each other's, and are waited for.
void lost(trainer_actor* self, std::uint32_t device) {
  auto& s = self->state;
  if (s.devices.erase(device) == 0 || s.pending.erase(device) == 0) return;
  ensure(s.doing != work::update, "a device died inside an update: weights are torn");
  s.broken = true;
  if (s.doing == work::gradient || s.pending.empty()) begin_again(self);
}

caf::behavior trainer(trainer_actor* self, std::shared_ptr<trainer_state> given) {
  end_with_reason(self);
  self->state = std::move(*given);
  auto& state = self->state;
  state.schedule.emplace(state.settings.groups, state.settings.inner_steps);
  state.trained.resize(state.settings.groups);
  state.tokens_total.assign(state.settings.groups, 0);
  state.rounds.assign(state.settings.groups, 0);
  state.schedule->pause();  // until begin_training
  return {
      [=](const group_settled& m) {
        auto& s = self->state;
        s.tokens_total.at(m.group) = m.tokens_total;
        s.rounds.at(m.group) = m.round;
        if (s.told_finished && !m.finished) {  // the end is void: this group has rounds to go again
          s.told_finished = s.final_save = false;
          self->send(s.owner, run_reopened{});
        }
        s.schedule->group_settled(m.group, m.finished);
        drive(self);
      },
      [=](const group_unsettled& m) {
        self->state.schedule->group_unsettled(m.group);
        drive(self);
      },
      [=](const hand_in& m) {
        auto& s = self->state;
        const bool stepping = s.doing >= work::leasing;
        if (m.closed)
          s.schedule->round_closed(m.group);
        else if (!stepping && s.trained.at(m.group).tokens == 0)
          self->send(s.groups[m.group], pass_round{});
        else
          s.schedule->round_closes(m.group);
        if (!stepping) give_back_what_is_due(self);
        drive(self);
      },
      [=](const stand_by& m) {
        self->state.stands_by = m.on;
        drive(self);
      },
      [=](const anchor_loaded& m) {
        auto& s = self->state;
        if (s.doing != work::loading || s.loads_missing == 0) return;
        s.rounds.at(m.group) = m.round;
        s.schedule->group_loaded(m.group);
        if (--s.loads_missing > 0) return;
        s.doing = work::none;
        drive(self);
      },
      [=](const rows_leased& m) {
        auto& s = self->state;
        if (s.doing != work::leasing || m.ticket != s.ticket) return;
        s.rows = m;
        begin_gradient(self);
      },
      [=](const gradient_done& m) {
        auto& s = self->state;
        if (m.ticket == s.ticket) {
          s.loss_sum += m.loss_sum;
          s.gradients[m.device] = m.gradients;
        }
        part_done(self, m.device, m.ticket, work::gradient);
      },
      [=](const slice_reduced& m) {
        if (m.ticket == self->state.ticket) self->state.squares += m.sum_of_squares;
        part_done(self, m.device, m.ticket, work::reduction);
      },
      [=](const slice_updated& m) { part_done(self, m.device, m.ticket, work::update); },
      [=](const rows_evaluated& m) {
        if (m.ticket == self->state.ticket) self->state.loss_sum += m.loss_sum;
        part_done(self, m.device, m.ticket, work::evaluating);
      },
      [=](const rested& m) {
        if (self->state.doing == work::resting && m.ticket == self->state.ticket) end_step(self);
      },
      [=](const boundary_saved&) {
        if (self->state.doing != work::saving) return;
        self->state.doing = work::none;
        drive(self);
      },
      [=](const device_ready& m) {
        auto& s = self->state;
        s.devices[m.device] = m.handle;
        if (s.doing == work::gradient && s.pending.empty())
          begin_gradient(self, true);
        else
          drive(self);
      },
      [=](const begin_training& m) {
        self->state.step = m.after_step;
        self->state.schedule->resume();
        drive(self);
      },
      [=](const device_lost& m) { lost(self, m.device); },
      [=](const metrics_restarted& m) { self->state.metrics = m.handle; },
      [=](const save_now&) { self->state.save_asked = true; },
      [=](const drain&) {
        auto& s = self->state;
        s.drain_asked = true;  // at the next boundary: a period cut short would not replay bit for bit
        drive(self);
      },
  };
}

}  // namespace

caf::actor spawn_trainer(caf::event_based_actor* owner, trainer_settings settings, caf::actor shard, std::vector<caf::actor> groups,
                         std::vector<caf::actor> devices, caf::actor metrics) {
  auto state = std::make_shared<trainer_state>();
  state->settings = std::move(settings);
  state->owner = caf::actor_cast<caf::actor>(owner);
  state->shard = std::move(shard);
  state->groups = std::move(groups);
  state->metrics = std::move(metrics);
  for (std::uint32_t i = 0; i < devices.size(); ++i) state->devices.emplace(i, devices[i]);
  return owner->spawn<caf::linked>(trainer, std::move(state));
}

}  // namespace isthmus::actors
