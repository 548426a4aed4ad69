#pragma once

#include "framework/core/clock.hpp"
#include "framework/core/expected.hpp"
#include "framework/transport/ucx_transport.hpp"

#include <string>

namespace isthmus {

/// What answers at an address.
enum class door { open, refused, silent };

struct door_probe {
  door found = door::silent;
  double round_trip_seconds = 0;  // median of the connections that were answered, refusals too; 0: none was
  double loss = 0;                // part of the tries that nothing answered in time
};

/// Opens TCP connections to the address, one after another, and closes them without a word. Waits `patience` for each at most. Errors:
/// environment (no such address, or one that links may not use).
expected<door_probe> probe_door(const std::string& address, int tries, duration patience);

struct link_measure {
  double bytes_per_second = 0;    // of bulk payload, one way, sealed
  double round_trip_seconds = 0;  // of the control channel; 0: not known yet
};

/// Makes both ends of a sealed link in this process, between two of its addresses, and fills it for a while. Keys are of the moment.
/// `like`: endpoints, chunks, window and data ports as there. Errors: environment, timed_out (it did not come up or nothing moved).
expected<link_measure> measure_link(const ucx_transport_options& like, const std::string& from, const std::string& to, duration how_long,
                                    const clock& time);

}  // namespace isthmus
