#pragma once

#include "framework/core/clock.hpp"
#include "framework/core/hash.hpp"
#include "framework/core/rng.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

namespace isthmus::sim {

/// Virtual time and everything that is due in it. One thread, one seed: the same calls give the same history, and `digest`
/// proves it. Events of one instant run in the order they were scheduled.
class world final : public clock {
public:
  explicit world(std::uint64_t seed) : seed_(seed) {}

  time_point now() const override { return now_; }
  double wall_seconds() const override { return 1.7e9 + to_seconds(now_.time_since_epoch()); }
  std::uint64_t seed() const { return seed_; }
  /// A fresh stream of random numbers for one purpose; successive calls differ.
  rng draw_stream(draw purpose) { return rng(seed_, 0, ++streams_, purpose); }

  void at(time_point when, std::function<void()> what);
  void after(duration delay, std::function<void()> what) { at(now_ + delay, std::move(what)); }
  std::optional<time_point> next_due() const;
  /// Moves time forward (never back) without running anything that is due later.
  void advance_to(time_point when);
  /// Runs the earliest event if it is due by now. False when none is.
  bool run_due();

  /// Adds a line to the history's digest.
  void note(std::string_view line);
  hash128 digest() const { return digest_; }

private:
  std::uint64_t seed_, streams_ = 0, sequence_ = 0;
  time_point now_{};
  std::map<std::pair<time_point, std::uint64_t>, std::function<void()>> due_;
  hash128 digest_;
};

}  // namespace isthmus::sim
