#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/stateful_actor.hpp>

#include <utility>

namespace isthmus::actors {

/// Where actors run. For real, those that compute get a thread of their own, so that heartbeats are never behind a matrix product;
/// in a simulation every actor is stepped by the one thread that owns time.
enum class tier { real, simulated };

/// Spawns an actor that computes, monitored by its parent.
template <class State, class Function, class... Arguments>
caf::actor spawn_compute(caf::event_based_actor* parent, tier where, Function behaviour, Arguments&&... arguments) {
  if (where == tier::real)
    return parent->spawn<caf::monitored + caf::detached>(behaviour, std::forward<Arguments>(arguments)...);
  return parent->spawn<caf::monitored>(behaviour, std::forward<Arguments>(arguments)...);
}

}  // namespace isthmus::actors
