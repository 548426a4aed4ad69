#pragma once

#include "framework/data/sample_order.hpp"
#include "framework/data/token_shard.hpp"
#include "framework/models/hybrid_model.hpp"
#include "framework/optim/adamw.hpp"
#include "framework/optim/schedule.hpp"
#include "framework/rounds/contribution_book.hpp"
#include "framework/rounds/parameter_group.hpp"

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace isthmus::bench {

/// What a hostile site sends in place of what its training made: docs/hostile.md.
enum class attack_kind {
  none,
  sign_flip,  // the change the other way
  scale,      // a thousand times the change
  noise,      // a random direction, three times as long as its first change
  replay,     // its first change, again and again
  lazy,       // trains one step of a round and sends it times the steps, as if it were all of them
  mixed,      // by site: one of the first four after the other
};

struct federation_settings {
  model_config model;
  std::uint32_t sites = 8, hostile = 0;  // the first ones are hostile; the last one is every group's home
  attack_kind attack = attack_kind::none;
  guard_settings guarding;
  double audit_rate = 0, audit_cosine = 0.45;                                              // by the home, of all others
  std::int64_t context = 128, tokens_per_step = 256, inner_steps = 8, tokens = 2'000'000;  // of all sites; hostile ones are counted too
  double learning_rate = 1.2e-3;  // as all that follows from recipes/convergence.toml: eight small batches are mostly noise
  double decay_share = 0.3;       // of the tokens, at the end: the rate falls to a twentieth
  float outer_rate = 0.9F, outer_momentum = 0.5F;
  std::uint64_t seed = 1;
};

/// A whole run of many sites in one thread: real groups, books and contributions, each message handed over at once; the sites take
/// turns on one model.
class federation {
public:
  /// Borrows shards (one a site) and team.
  federation(const federation_settings& settings, std::span<const token_shard> shards, kernels::team& team);

  std::int64_t rounds_planned() const;
  /// False when a site's own weights have gone beyond all bounds: there is nothing left to train.
  bool round();
  /// Nats per token of the anchor on what all sites hold out, about `tokens` of it.
  double held_out_loss(std::int64_t tokens);
  std::int64_t parameters() const { return model_.layout().parameter_count(); }
  /// Vetoes of hostile sites' contributions, and of honest ones'.
  std::uint64_t vetoed_hostile() const { return vetoed_hostile_; }
  std::uint64_t vetoed_honest() const { return vetoed_honest_; }
  /// What audits found so far.
  const std::vector<double>& cosines_hostile() const { return cosines_hostile_; }
  const std::vector<double>& cosines_honest() const { return cosines_honest_; }

private:
  struct site {
    std::unique_ptr<parameter_group> group;
    std::unique_ptr<contribution_book> book;
    std::unique_ptr<adamw> optimizer;
    std::unique_ptr<batch_reader> reader;
    std::uint64_t position = 0;
    step_number step = 0;
    std::vector<float> first_change;
  };
  struct parcel {
    site_id from, to;
    envelope what;
  };

  attack_kind attack_of(site_id id) const;
  std::span<float> working();
  double rate_of_step(std::int64_t step_of_round) const;
  void train(site_id id);
  void step(adamw& optimizer, std::span<const token_id> ids, std::int64_t step_of_round);
  void audit(const group_effect::audit& drawn);
  void spoil(site_id id, std::span<const float> anchor, std::span<float> working);
  void perform(site_id id, const group_actions& actions);

  federation_settings s_;
  std::span<const token_shard> shards_;
  hybrid_model model_;
  group_shape shape_;
  adamw auditor_;
  std::vector<site> sites_;
  std::deque<parcel> wire_;
  time_point now_{};
  std::int64_t round_ = 0;
  std::uint64_t vetoed_hostile_ = 0, vetoed_honest_ = 0;
  std::vector<float> start_;                // the anchor that this round begins from
  std::vector<group_effect::audit> drawn_;  // of this round
  std::vector<double> cosines_hostile_, cosines_honest_;
};

}  // namespace isthmus::bench
