#pragma once

#include "actors/spawn.hpp"
#include "framework/core/storage.hpp"
#include "framework/data/token_shard.hpp"
#include "framework/models/learner.hpp"
#include "framework/recipe/recipe.hpp"
#include "framework/rounds/messages.hpp"
#include "framework/transport/transport.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>

namespace isthmus::actors {

/// Hears what a site does, for the run store, the live display and tests. Called from the metrics actor alone.
class site_observer {
public:
  virtual ~site_observer() = default;
  virtual void on_step(step_number step, std::uint64_t tokens, double loss, double gradient_norm, double learning_rate, double seconds,
                       round_number round) = 0;
  virtual void on_evaluation(round_number round, std::uint64_t tokens_total, double loss) = 0;
  virtual void on_round(const round_record& record, std::uint64_t bytes_up, std::uint64_t bytes_down, double seconds) = 0;
  virtual void on_link(site_id peer, bool up, const link_counters& counters, const std::string& reason) = 0;
  virtual void on_checkpoint(std::uint64_t id, round_number round, std::uint64_t bytes, double seconds, const std::string& error) = 0;
  virtual void on_event(const std::string& kind, const std::string& text) = 0;
};

/// All that a site is made of; main builds it, a simulation builds another. References outlive the site.
struct site_parts {
  const recipe& plan;
  std::string run_id;
  site_id self = 0;
  incarnation_number incarnation = 1;
  tier where = tier::real;
  transport& wire;
  std::map<site_id, std::string> addresses;  // of the other sites and the coordinator
  storage& disk;                             // the site's own folder
  std::shared_ptr<const token_shard> tokens;
  /// Makes the arithmetic of one device, in the device's own thread; initial weights are in place, the same at every site.
  std::function<std::unique_ptr<learner>(std::uint32_t device)> make_learner;
  site_observer& observer;
  /// Called once, when the site has nothing left to do: 0 the run is finished, 7 stopped on purpose, 1 failed, 6 refused, 8 a promise
  /// was broken.
  std::function<void(int exit_code, std::string reason)> stopped;
};

/// The root of a site's tree of actors. Heeds drain (finish, checkpoint, stop with 7) and save_now; ends by itself after `stopped`.
caf::actor spawn_site(caf::actor_system& system, std::shared_ptr<site_parts> parts);

}  // namespace isthmus::actors
