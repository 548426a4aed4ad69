#pragma once

#include "framework/checkpoint/checkpoint.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus::testing {

/// A site's state after some steps: its tensors are functions of the step, so that a loaded one can be checked against its manifest.
struct content {
  std::vector<float> weights, moment;
  checkpoint_facts facts;
  std::vector<checkpoint_part> parts;

  explicit content(std::uint64_t step) : weights(257), moment(100) {
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(step) + static_cast<float>(i) / 1024;
    for (std::size_t i = 0; i < moment.size(); ++i) moment[i] = -static_cast<float>(step * i);
    facts.run_id = "run";
    facts.step = step;
    facts.state = "{\"cursors\":[" + std::to_string(step) + "]}";
    parts = {{"weights", {view_of("w", std::span<const float>(weights))}}, {"moments", {view_of("m", std::span<const float>(moment))}}};
  }
  content(const content&) = delete;
};

/// The step of the checkpoint that loads; 0 when there is none. Its tensors must be those of that step.
std::uint64_t step_that_loads(storage& disk);

}  // namespace isthmus::testing
