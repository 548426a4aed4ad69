#pragma once

#include "framework/core/clock.hpp"
#include "framework/core/error.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace isthmus {

/// What one caller may cost us: so many handshakes that come to nothing, by the address they come from, and one line of the log a minute
/// and kind of trouble. What it remembers is bounded, however many addresses call.
class call_limits {
public:
  static constexpr std::size_t addresses_max = 1024;  // remembered; the one heard of longest ago gives way
  static constexpr duration log_every = std::chrono::minutes(1);

  /// Who calls, of an address (4 or 16 bytes): of IPv6 the first 8 count, since a host has 2^64 addresses to call from.
  static std::string caller_of(std::span<const std::byte> host);

  /// Handshakes of one address.
  call_limits(double burst, double per_second) : burst_(burst), per_second_(per_second) {}

  /// Whether a handshake of this address may be looked at: it costs two products on a curve.
  bool may_shake(std::span<const std::byte> host, time_point now);
  /// It ended well, and does not count.
  void shook(std::span<const std::byte> host);
  /// The line to log, if any now: the first of a minute, with the number of those that were left out before it.
  std::optional<std::string> line(const std::string& who, errc kind, const std::string& text, time_point now);

private:
  struct allowance {
    double left;
    time_point heard{};
  };
  struct told {
    time_point at{};
    std::uint64_t left_out = 0;
  };
  double burst_, per_second_;
  std::map<std::string, allowance> addresses_;  // by the bytes of the address
  std::map<std::pair<std::string, errc>, told> told_;
};

}  // namespace isthmus
