#pragma once

#include "actors/site.hpp"
#include "actors/spawn.hpp"
#include "framework/codecs/codec.hpp"
#include "framework/optim/schedule.hpp"
#include "framework/rounds/parameter_group.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace isthmus::actors {

/// What an auditor works with; nothing of it is the training's own.
struct auditor_settings {
  site_arithmetic arithmetic;  // with moments of its own
  std::map<site_id, std::shared_ptr<const token_shard>> texts;
  std::vector<group_shape> shapes;
  codec_plan codecs;
  std::uint64_t seed = 0;  // of the run: keys the order of samples
  std::int64_t context = 0, rows_per_step = 1, tokens_per_slice = slice_tokens;
  std::int64_t steps_max = 1;  // a contribution of more is not audited
  double clip_norm = 0;
  std::uint64_t sites = 1;  // that train: to place the learning rate inside a period
  rate_schedule learning_rate;               // by tokens of the whole run
  std::function<duration()> gradient_takes;  // virtual time of a step; empty for real
};

/// Trains what committed contributions name again, from the anchors that their sites began from, and tells the groups what that made
/// (contribution_audited). It learns anchors by anchor_moved and takes audit_contribution, one at a time; what comes while several wait is
/// not audited. Of Adam's moments the second, how large gradients are, is what all audits before made of it, and the first begins at zero: so
/// what an honest site sent is alike, not equal (measured: docs/hostile.md). Beside the training: it shares the site's processors and nothing else.
caf::actor spawn_auditor(caf::event_based_actor* owner, tier where, auditor_settings settings, caf::actor metrics);

}  // namespace isthmus::actors
