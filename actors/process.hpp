#pragma once

#include "framework/core/clock.hpp"
#include "framework/recipe/recipe.hpp"
#include "framework/transport/identity.hpp"
#include "framework/transport/transport.hpp"

#include <caf/actor.hpp>
#include <caf/actor_system_config.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <signal.h>
#include <string>

/// What the processes of a run have in common: run.cpp (sites), run_coordinator.cpp.
namespace isthmus::actors {

inline constexpr auto lock_patience = std::chrono::seconds(30);

/// A line for people, to stderr.
void say(const std::string& who, const std::string& text);

expected<std::unique_ptr<transport>> open_wire(const recipe& plan, const std::string& run_id, site_id self, incarnation_number incarnation,
                                               const std::string& listen, std::shared_ptr<const link_keys> keys,
                                               const isthmus::clock& time);

/// Set by the end of the tree of actors, awaited by the process's first thread, which also hears signals.
struct ending {
  std::atomic<bool> done{false};
  std::atomic<int> code{1};
};

/// Signals reach the first thread only; call before any thread starts.
sigset_t block_signals();

/// The process must not outlive its root: one that failed by itself ends it with 1.
void end_with(const caf::actor& root, const std::string& who, ending& end);

/// devices: of the site; none are at a coordinator.
int wait_for_end(const std::string& who, const sigset_t& signals, const ending& end, const caf::actor& root, std::int64_t devices);

struct actor_config final : caf::actor_system_config {
  actor_config();
};

}  // namespace isthmus::actors
