#pragma once

#include "framework/core/buffer.hpp"
#include "framework/core/probe.hpp"
#include "framework/optim/robust_sum.hpp"
#include "framework/rounds/watermarks.hpp"

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace isthmus {

/// How a home treats contributions that may be wrong: docs/hostile.md. As it stands here it trusts them all.
struct guard_settings {
  aggregate_kind aggregate = aggregate_kind::mean;
  std::uint32_t hostile_max = 1;       // trimmed_mean leaves out so many at each end
  double norm_veto = 0;                // longer than so many times the median, by tokens: vetoed; 0: never
  double similarity_veto = 0;          // cosine with an earlier one, or another site's, from which on it is a replay or copy; 0: never
  double direction_veto = -1;          // median cosine with the others' up to which it is vetoed; -1: never
  double weight_cap = 0;               // tokens counted of it, in medians of the round; 0: all
  std::uint64_t probation_rounds = 0;  // until a site has had so many of its own committed,
  double probation_weight = 0.25;      // so much of its tokens counts. The founders' own first rounds count in full
  std::uint32_t barred_after = 0;      // vetoes in a row; 0: never
  std::uint64_t barred_rounds = 10;    // that it is then left out of
  /// Contributions are looked at one by one.
  bool active() const {
    return aggregate != aggregate_kind::mean || norm_veto > 0 || similarity_veto > 0 || direction_veto > -1 || weight_cap > 0 ||
           probation_rounds > 0;
  }
};

/// A direction in few numbers: element i goes with a keyed sign to number i mod 256 (count sketch; Charikar, Chen & Farach-Colton 2002).
/// The cosine of two sketches is that of what they are of, to about (1 - cosine^2) / 16.
struct direction_sketch {
  std::array<float, 256> sums{};
};
direction_sketch sketch_of(std::span<const float> values, std::uint64_t key);
double cosine(const direction_sketch& a, const direction_sketch& b);

/// One contribution under judgement.
struct judged_contribution {
  contributor meta;                     // judged, uncounted, clipped and barred_until are set
  std::unique_ptr<float_array> values;  // its frame's; null: it does not decode. Scaled where its weight is capped
  measured size;                        // of the values
  direction_sketch sketch;
  std::string reason;  // plain words, of what was not simply taken
};

/// A home's judgement of one group's contributions. What it remembers of earlier ones may be lost with the home: then a replay of what
/// went through the old one is not recognised. How often a site was vetoed is in the watermarks.
class guard {
public:
  guard(guard_settings settings, std::uint64_t key, double reference_tokens) : s_(settings), key_(key), reference_(reference_tokens) {}
  const guard_settings& settings() const { return s_; }

  /// What does not decode. Gives a strike as other vetoes do.
  void veto(judged_contribution& c, verdict why, std::string reason, const watermark_table& marks, round_number round) const;
  /// Judges contributions to `round`, in site order; some may be vetoed already.
  void judge(std::vector<judged_contribution>& all, const watermark_table& marks, round_number round) const;
  /// sum: [size], of what is left; at least one must be. centre: the last delta by weight, or empty.
  void add(std::vector<judged_contribution>& all, std::span<const float> centre, std::span<float> sum) const;
  /// The round was committed: what was taken is known from now on.
  void remember(const std::vector<judged_contribution>& all);
  /// Rounds became void: what was made of their samples is made of them again.
  void forget() { past_.clear(); }

private:
  struct past {
    incarnation_number incarnation = 0;
    step_number step = 0;
    direction_sketch sketch;
  };
  void cap(std::vector<judged_contribution*>& left, const watermark_table& marks, round_number round) const;
  void screen_norms(std::vector<judged_contribution*>& left, const watermark_table& marks, round_number round) const;
  void screen_copies(std::vector<judged_contribution*>& left, const watermark_table& marks, round_number round) const;
  void screen_directions(std::vector<judged_contribution*>& left, const watermark_table& marks, round_number round) const;
  std::string known(const judged_contribution& c, verdict& why) const;

  guard_settings s_;
  std::uint64_t key_;
  double reference_;
  std::map<site_id, std::deque<past>> past_;
};

const char* name_of(verdict v);

}  // namespace isthmus
