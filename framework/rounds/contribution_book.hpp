#pragma once

#include "framework/codecs/codec.hpp"
#include "framework/codecs/contribution.hpp"
#include "framework/core/buffer.hpp"
#include "framework/core/probe.hpp"
#include "framework/rounds/messages.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace isthmus {

struct contribution_settings {
  site_id self = 0;
  incarnation_number incarnation = 0;
  group_shape shape;
  codec_plan codecs;  // the ways up of them
  std::uint64_t reference_tokens = 1;
  float residual_decay = 1;  // of the residual, each time a contribution is formed; 1 keeps all
};

/// A contribution ready for parameter_group::local_contribution.
struct formed_contribution {
  shared_bytes frame;
  contributor meta;
  std::string ledger_line;
};

/// What a checkpoint keeps of it. residual: [group.size], with the contribution in flight taken back into it.
struct contribution_snapshot {
  std::vector<float> residual;
  round_number round = 0;     // the group's round when it was taken
  step_number step = 0;       // this site's watermark then: the last step of it that a record holds
  std::uint64_t tokens = 0;   // of samples whose mass is in the residual and in no record: 0 between periods
  double mass = 0;            // probe of the residual
  std::vector<lease> leases;  // of those tokens
};

/// One site's account of one group: the residual (mass the codec has not sent), the contribution in flight, and the tokens and
/// leases that wait to be counted. Design: late is not lost. Pure; not thread-safe. Every method that moves mass gives a ledger line.
class contribution_book {
public:
  explicit contribution_book(contribution_settings settings);

  /// round: the one contributed to. start, working: [group.size], the weights that the training began from (the anchor of round - 1)
  /// and that it reached, over `tokens` tokens up to `step`. value = (start - working) * tokens / reference_tokens + decay * residual; frame = encode(value);
  /// residual = value - decode(frame). meta counts rolled-over tokens and leases too. Nothing may be in flight. errc::not_finite:
  /// nothing changed.
  expected<formed_contribution> form(round_number round, std::span<const float> start, std::span<const float> working, step_number step,
                                     std::uint64_t tokens, std::span<const lease> leases);
  /// The round closed without us while we trained: the change becomes residual, tokens and leases roll over. Gives a ledger line.
  expected<std::string> keep_late(round_number round, std::span<const float> start, std::span<const float> working, step_number step,
                                  std::uint64_t tokens, std::span<const lease> leases);
  /// form or keep_late refused what training made: the account stands as it was, and the line says which work was in vain.
  std::string vetoed(round_number round, step_number step, std::uint64_t tokens) const;
  /// The contribution in flight is in a committed record.
  std::string counted(round_number round);
  /// It is in one that vetoes it: its mass is gone, and what it was trained on is in no sum of this group.
  std::string discarded(round_number round);
  /// It is in none: residual += decode(frame).
  std::string lost(round_number round);
  /// Committed records became void: `step` is what is left of this site's watermark.
  void roll_back(step_number step) { committed_step_ = step; }
  /// A former home hands its aggregator residual back. [group.size]
  std::string add(round_number round, std::span<const float> values);

  bool in_flight() const { return frame_ != nullptr; }
  std::span<const float> residual() const { return residual_.span(); }
  contribution_snapshot snapshot(round_number round) const;
  /// Restores a checkpoint's residual when it belongs to where the group stands now: no other contribution of this site was committed
  /// since (`watermark`, from the group), nor voided, and it holds no samples that a restart gives back. Else, or when saved is null, the
  /// residual is zero and the old one is written off with its norm. Gives the ledger line.
  std::string restore(const contribution_snapshot* saved, step_number watermark, round_number round);

private:
  std::string line(const char* event, round_number round, const contribution_mass& mass, double other) const;
  expected<contribution_mass> absorb(std::span<const float> start, std::span<const float> working, std::uint64_t tokens, float decay);
  void roll_over(step_number step, std::uint64_t tokens, std::span<const lease> leases);
  void measure_residual();

  contribution_settings settings_;
  float_array residual_;
  measured left_;  // of the residual, taken when it last changed
  shared_bytes frame_;
  std::shared_ptr<const codec> frame_codec_;
  contributor meta_;  // of the frame in flight
  step_number step_ = 0, committed_step_ = 0;
  std::uint64_t tokens_ = 0;  // rolled over
  std::vector<lease> leases_;
};

}  // namespace isthmus
