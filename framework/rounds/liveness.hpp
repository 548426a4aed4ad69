#pragma once

#include "framework/core/clock.hpp"

#include <cstdint>

namespace isthmus {

/// Decides from heartbeats whether the other end of a link lives: transports do not notice a black hole or a stopped process in time,
/// so every link carries beats both ways. Fed with events and now; knows no timer.
class liveness {
public:
  struct settings {
    duration interval = std::chrono::milliseconds(250);     // between our beats
    duration dead_after = std::chrono::milliseconds(2000);  // of silence
  };
  explicit liveness(settings s) : settings_(s) {}

  /// The link came up: silence counts from here.
  void up(time_point now) {
    alive_ = true;
    last_heard_ = now;
    next_beat_ = now;
  }
  void down() { alive_ = false; }
  /// Anything at all came from the peer.
  void heard(time_point now) { last_heard_ = now; }
  /// A beat of ours came back: `sent` is when it left.
  void echoed(time_point sent, time_point now) {
    const double sample = to_seconds(now - sent);
    round_trip_seconds_ = round_trip_seconds_ == 0 ? sample : 0.875 * round_trip_seconds_ + 0.125 * sample;
  }

  bool beat_is_due(time_point now) {
    if (!alive_ || now < next_beat_) return false;
    next_beat_ = now + settings_.interval;
    return true;
  }
  /// True once silence has lasted too long; the caller closes the link and says down().
  bool is_dead(time_point now) const { return alive_ && now - last_heard_ > settings_.dead_after; }
  duration silence(time_point now) const { return now - last_heard_; }
  double round_trip_seconds() const { return round_trip_seconds_; }

private:
  settings settings_;
  bool alive_ = false;
  time_point last_heard_{}, next_beat_{};
  double round_trip_seconds_ = 0;  // smoothed as TCP does (RFC 6298)
};

}  // namespace isthmus
