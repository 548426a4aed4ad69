#pragma once

#include "actors/spawn.hpp"
#include "framework/core/clock.hpp"
#include "framework/optim/schedule.hpp"
#include "framework/rounds/messages.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace isthmus::actors {

/// What a trainer needs to know of the recipe.
struct trainer_settings {
  std::uint32_t groups = 1, devices = 1, inner_steps = 1;
  std::int64_t rows_per_step = 1, context = 1, layout_size = 0;
  double clip_norm = 0;
  std::uint64_t sites = 1;                                                 // that train: to place the learning rate inside a period
  rate_schedule learning_rate;                                             // by tokens of the whole run
  std::uint64_t evaluation_every_rounds = 0, checkpoint_every_rounds = 0;  // 0: never
  std::shared_ptr<const std::vector<std::int32_t>> held_out;               // [rows, context + 1]
  std::int64_t held_out_rows = 0;
  /// How long a step that took so long rests before it counts as done: a pace. Empty: not at all.
  std::function<duration(duration spent)> rest;
};

/// Conducts the devices of a site through the schedule: leases rows, spreads them over the devices that live, has gradients reduced and
/// weights updated slice by slice, contributes after H steps and waits for the groups. A device that dies in a gradient or a reduction
/// costs only the repetition of that step's gradient; one that dies in an update leaves torn weights, and the trainer fails with it.
caf::actor spawn_trainer(caf::event_based_actor* owner, trainer_settings settings, caf::actor shard, std::vector<caf::actor> groups,
                         std::vector<caf::actor> devices, caf::actor metrics);

}  // namespace isthmus::actors
