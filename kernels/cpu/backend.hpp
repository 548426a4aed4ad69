#pragma once

#include "kernels/backend.hpp"

#include <vector>

namespace isthmus::kernels {

/// The fastest kernels that this CPU can run. Results depend on the arguments and on the CPU's instruction set, not on the team.
const backend& cpu_backend();

/// All of them that this CPU can run, the fastest first.
std::vector<const backend*> cpu_backends();

}  // namespace isthmus::kernels
