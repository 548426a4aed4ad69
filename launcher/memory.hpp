#pragma once

#include "framework/core/expected.hpp"
#include "framework/recipe/recipe.hpp"

namespace isthmus::launcher {

/// Of this machine, in bytes. available: without taking any from programs that run.
struct machine_memory {
  double available = 0, total = 0;
};
machine_memory look_at_memory();

/// What a site keeps for weights, gradients, moments and rounds, in bytes; activations come on top.
double memory_of_site(const recipe& plan);
/// Whether all sites of the run fit into this machine, where all of them run. Errors: environment, with what is needed and what is there.
expected<void> check_memory(const recipe& plan);

}  // namespace isthmus::launcher
