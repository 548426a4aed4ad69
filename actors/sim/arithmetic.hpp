#pragma once

#include "actors/site.hpp"
#include "framework/recipe/recipe.hpp"
#include "kernels/team.hpp"

#include <cstdint>
#include <functional>

namespace isthmus::actors {

/// What a device is about to compute.
enum class device_work { gradient, evaluation, reduction, update };

/// Where a fault may step in.
struct arithmetic_hooks {
  std::function<void(std::uint32_t device, device_work)>
      before;  // each slice of work, in the device's actor; what it throws is its failure
  std::function<void(const optimizer_slice&)> before_update, after_update;  // around each optimizer step of a slice
};

/// The recipe's own model on the reference kernels, so that a seed means the same on every CPU. team outlives it.
site_arithmetic model_arithmetic(const recipe& plan, kernels::team& team, arithmetic_hooks hooks);

/// Whole numbers in place of a model: a row of text moves a few of some thousand weights by small integers, whatever the learning rate,
/// so that a change says which rows made it and a step costs microseconds.
site_arithmetic grid_arithmetic(arithmetic_hooks hooks);
parameter_layout grid_layout();
/// What one row of text does to weights of grid_layout(): [layout.size], added to `change`.
void add_grid_change(std::span<const std::int32_t> row, std::span<float> change);

}  // namespace isthmus::actors
