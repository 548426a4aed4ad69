#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/stateful_actor.hpp>

namespace isthmus::actors {

/// Where actors run. For real, those that compute get a thread of their own, so that heartbeats are never behind a matrix product;
/// in a simulation every actor is stepped by the one thread that owns time.
enum class tier { real, simulated };

/// An exception that leaves a handler ends the actor with the exception's text as its reason, for its supervisor to tell.
void end_with_reason(caf::scheduled_actor* self);

}  // namespace isthmus::actors
