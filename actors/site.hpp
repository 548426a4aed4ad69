#pragma once

#include "actors/device.hpp"
#include "actors/spawn.hpp"
#include "framework/codecs/codec.hpp"
#include "framework/core/clock.hpp"
#include "framework/core/storage.hpp"
#include "framework/data/token_shard.hpp"
#include "framework/metrics/run_store.hpp"
#include "framework/recipe/recipe.hpp"
#include "framework/rounds/messages.hpp"
#include "framework/transport/transport.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>

namespace isthmus::actors {

/// Where measurements go: the run store, a test's memory. Called by the metrics actor alone.
class metrics_sink {
public:
  virtual ~metrics_sink() = default;
  virtual void put(store_row row) = 0;
  virtual void flush() = 0;
};

/// The arithmetic of a site, as functions so that a simulation can give a small one.
struct site_arithmetic {
  parameter_layout layout;
  /// Fills the weights that every site starts from: [layout.size].
  std::function<void(std::span<float> weights)> initialise;
  learner_maker make_learner;  // called in the device's own thread
  /// The inner optimizer, on the device's own learner; thread-safe for disjoint slices.
  std::function<void(learner&, const optimizer_slice&)> update;
  /// The squared norm of a slice of gradients, on the device's own learner; slices begin at multiples of 4096.
  std::function<double(learner&, std::span<const float>)> squared_norm;
  /// Its moments, [layout.size] each: kept in checkpoints.
  std::span<float> first_moment, second_moment;
};

/// What a home needs to train other sites' contributions again (docs/hostile.md); without texts it audits nobody.
struct audit_means {
  std::map<site_id, std::shared_ptr<const token_shard>> texts;  // of sites with shared_text
  std::function<site_arithmetic()> arithmetic;                  // another one, which shares nothing with the training's
  std::uint64_t secret = 0;                                     // which contributions are drawn
};

/// All that a site is made of; main builds it, a simulation builds another. References outlive the site.
struct site_parts {
  recipe plan;
  std::string run_id;
  site_id self = 0;
  incarnation_number incarnation = 1;
  tier where = tier::real;
  transport& wire;
  std::map<site_id, std::string> addresses;  // of the other sites and the coordinator
  storage& disk;                             // the run's folder: ledger/, sites/<id>/checkpoints
  const isthmus::clock& wall;                // display times only
  std::shared_ptr<const token_shard> tokens;
  std::string domain;          // of the text, and
  double unigram_entropy = 0;  // of the held-out tokens, for display beside the loss
  site_arithmetic arithmetic;
  metrics_sink& metrics;
  own_codecs codecs{};  // that a recipe may name beside ours
  audit_means audits{};
  std::function<duration()> gradient_takes;      // in virtual time; a simulation's only
  std::function<duration(duration)> rest{};      // of a step that took so long, for real: a pace; empty: none
  std::int64_t tokens_per_slice = slice_tokens;  // of a device's work; a simulation may cut its small steps finer
  /// Called once, when the site has nothing left to do: 0 the run is finished, 7 stopped on purpose, 1 failed; before it trained also
  /// 4, 5 or 6, for what it found on its disk (framework/core/exit_code.hpp).
  std::function<void(int exit_code, std::string reason)> stopped;
};

/// The root of a site's tree of actors. Heeds drain (finish the period, checkpoint, stop with 7) and save_now; for users' own actors
/// register_actor and send_to_actor, which reaches the actor of that name at another site as from_actor.
caf::actor spawn_site(caf::actor_system& system, std::shared_ptr<site_parts> parts);

}  // namespace isthmus::actors
