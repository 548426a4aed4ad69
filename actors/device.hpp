#pragma once

#include "actors/spawn.hpp"
#include "framework/core/buffer.hpp"
#include "framework/core/clock.hpp"
#include "framework/models/learner.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace isthmus::actors {

/// One inner optimizer step over floats [begin, end) of flat arrays; those gradients are zero afterwards. See framework/optim.
struct optimizer_slice {
  std::span<float> weights, gradients;  // whole arrays
  std::int64_t begin, end;
  double learning_rate, gradient_scale;
  std::uint64_t step;
};

/// What the devices of a site share: master weights. Who may touch which part when is the trainer's business: a device
/// writes only the slice it was given, a group only its own floats between periods.
struct site_memory {
  explicit site_memory(parameter_layout l)
      : layout(std::move(l)), weights(std::make_shared<float_array>(static_cast<std::size_t>(layout.size))) {}
  parameter_layout layout;
  std::shared_ptr<float_array> weights;
};

/// Makes the learner of a device on arrays of the site's layout: the weights are the site's, the gradients are zero. Both outlive it.
using learner_maker = std::function<std::unique_ptr<learner>(std::uint32_t device, std::shared_ptr<float_array> weights,
                                                             std::shared_ptr<float_array> gradients)>;

/// Matrix products are at their speed from about so many tokens on. A slice of work has no more than it must, so that a device soon hears
/// what came in between.
inline constexpr std::int64_t slice_tokens = 512;

/// The rows of the next slice when `rows` > 0 are left: as many slices of `tokens` as there are whole ones, of nearly the same size. A
/// row is never cut.
std::int64_t rows_of_slice(std::int64_t rows, std::int64_t context, std::int64_t tokens);

/// How a device computes. Functions are called in the device's own thread.
struct device_settings {
  std::uint32_t index = 0;
  std::int64_t context = 0, tokens_per_slice = slice_tokens;
  std::function<duration()> gradient_takes;  // virtual time that a gradient costs in a simulation; empty for real
  std::shared_ptr<site_memory> memory;
  learner_maker make_learner;
  std::function<void(learner&, const optimizer_slice&)> update;
  std::function<double(learner&, std::span<const float>)> squared_norm;
};

/// A device: gradients of rows, reduction and update of slices, evaluation. Answers its trainer. A new request drops what is left of the
/// one before.
caf::actor spawn_device(caf::event_based_actor* owner, tier where, device_settings settings);

}  // namespace isthmus::actors
