#pragma once

#include "framework/recipe/recipe.hpp"
#include "launcher/verbs.hpp"

namespace isthmus::launcher {

/// `isthmus sim --real`: the recipe as it is, its faults those of run.seed, with real processes.
int run_sim_real(const sim_options& options, const recipe& plan, console& out);

}  // namespace isthmus::launcher
