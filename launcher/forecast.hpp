#pragma once

#include "framework/recipe/recipe.hpp"

#include <optional>
#include <string>
#include <vector>

namespace isthmus::launcher {

/// What a site's process will have in memory at most, in bytes.
struct site_forecast {
  double process = 0;   // the program, its libraries and threads, its text
  double training = 0;  // weights, gradients, moments, activations and what the kernels keep of the weights, of all devices
  double rounds = 0;    // anchor, momentum, residual, contributions on their way, checkpoints
  double total() const { return process + training + rounds; }
};

/// R055, when rows of train.context tokens do not fit model.activation_mib, with how much one needs. reading: of a recipe that has a value.
std::optional<recipe_problem> activation_problem(const recipe_reading& reading, const std::string& path);

/// For each site of the recipe. A step of a device is trained here, on tokens drawn at random, and its memory measured: what libraries keep
/// depends on the CPU. Takes as long as that and as much memory as one site's training; sites that are alike are measured once. What rounds
/// need is counted by outer rule and codec: docs/model.md.
std::vector<site_forecast> forecast_memory(const recipe& plan);

}  // namespace isthmus::launcher
