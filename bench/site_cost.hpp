#pragma once

#include "bench/train_step.hpp"

#include <cstdint>

namespace isthmus::bench {

/// CPU seconds (user and system, all threads) of one process, the mean of three that run at the same time.
struct process_cost {
  double mean = 0, most = 0;
};

/// Three real site processes and a coordinator over UCX: `rounds` rounds of `inner_steps` steps each, from start to end.
process_cost cost_of_sites(const train_shape& shape, std::int64_t rounds, std::int64_t inner_steps);

/// Three processes with nothing but the training loop, learner and AdamW, of as many steps: the same load on the machine.
process_cost cost_of_bare_loops(const train_shape& shape, std::int64_t steps);

}  // namespace isthmus::bench
