#pragma once

#include <chrono>
#include <cstdint>

namespace isthmus {

using duration = std::chrono::nanoseconds;
/// Monotonic time since an arbitrary start; wall time is for display only.
using time_point = std::chrono::time_point<std::chrono::steady_clock, duration>;

/// The one source of time. Made in main; a simulation gives a virtual one.
class clock {
public:
  virtual ~clock() = default;
  virtual time_point now() const = 0;
  /// Seconds since 1970, for display and file names only: no decision may read it.
  virtual double wall_seconds() const = 0;
};

class real_clock final : public clock {
public:
  time_point now() const override { return std::chrono::steady_clock::now(); }
  double wall_seconds() const override {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  }
};

inline double to_seconds(duration d) { return std::chrono::duration<double>(d).count(); }
inline duration from_seconds(double s) { return std::chrono::duration_cast<duration>(std::chrono::duration<double>(s)); }

}  // namespace isthmus
