#pragma once

#include "actors/spawn.hpp"
#include "framework/core/buffer.hpp"
#include "framework/core/clock.hpp"
#include "framework/models/learner.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

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
  site_memory(parameter_layout l, std::uint32_t devices)
      : layout(std::move(l)), weights(std::make_shared<float_array>(static_cast<std::size_t>(layout.size))), gradients(devices) {}
  parameter_layout layout;
  std::shared_ptr<float_array> weights;
  std::vector<std::span<float>> gradients;  // of each device's learner; empty until it is made
};

/// How a device computes. Functions are called in the device's own thread.
struct device_settings {
  std::uint32_t index = 0;
  std::int64_t context = 0, rows_per_slice = 4;  // a slice of work lasts well under a second, so that a stop is heard
  duration gradient_takes{};                     // virtual time that a gradient costs in a simulation; nothing for real
  std::shared_ptr<site_memory> memory;
  std::function<std::unique_ptr<learner>(std::uint32_t device, std::shared_ptr<float_array> weights)> make_learner;
  std::function<void(learner&, const optimizer_slice&)> update;
  std::function<double(learner&, std::span<const float>)> squared_norm;
};

/// A device: gradients of rows, reduction and update of slices, evaluation. Answers its trainer.
caf::actor spawn_device(caf::event_based_actor* owner, tier where, device_settings settings);

}  // namespace isthmus::actors
