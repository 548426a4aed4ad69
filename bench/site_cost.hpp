#pragma once

#include "bench/train_step.hpp"

#include <cstdint>

namespace isthmus::bench {

/// Steps of a site between which its process's CPU time is taken: start, first touch of memory, first round and last checkpoint are
/// outside.
struct step_window {
  std::int64_t first, last;
  std::int64_t steps() const { return last - first; }
};

/// CPU seconds (user and system, all threads) of one site process inside the window, the mean of three that run at the same time beside a
/// coordinator, over UCX, with their metrics in a store, in rounds of `inner_steps` steps, with a checkpoint every so many rounds (0: only
/// at the end).
double cost_of_sites(const train_shape& shape, step_window window, std::int64_t inner_steps, std::int64_t checkpoint_every_rounds = 0);

/// Of one of three processes with nothing but the training loop, learner and AdamW: the same load on the machine.
double cost_of_bare_loops(const train_shape& shape, step_window window);

}  // namespace isthmus::bench
