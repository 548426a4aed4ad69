#pragma once

#include "actors/spawn.hpp"
#include "framework/core/storage.hpp"
#include "framework/recipe/recipe.hpp"
#include "framework/rounds/coordinator_log.hpp"
#include "framework/transport/transport.hpp"

#include <functional>
#include <memory>
#include <string>

namespace isthmus::actors {

/// What the coordinator is made of. References outlive it.
struct coordinator_parts {
  recipe plan;
  std::string run_id;
  incarnation_number incarnation = 1;
  std::uint32_t groups = 1;
  tier where = tier::real;
  transport& wire;
  std::unique_ptr<coordinator_log> log;
  std::function<void(const std::string& kind, const std::string& text)> decided{};  // for people
  std::function<void(int exit_code, std::string reason)> stopped{};                 // 0 finished, 7 stopped, 4 disk full, 1 fenced, failed
};

/// The coordinator: feeds joins, seals and silence to `membership`, has its decisions appended to the log before anybody hears of them, and
/// sends them. Never on the data path. Heeds drain: asks every site to stop; and log_closed. A log that takes no more ends it at once and
/// in silence.
caf::actor spawn_coordinator(caf::actor_system& system, std::shared_ptr<coordinator_parts> parts);

}  // namespace isthmus::actors
