#pragma once

#include "framework/core/expected.hpp"
#include "framework/transport/transport.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace isthmus {

inline constexpr std::size_t greeting_bytes_max = 1024;  // all the memory that an unadmitted connection is given

/// What each end says first: who it is, whom it takes the other for, and how to reach its UCX worker.
struct greeting {
  link_hello hello;
  site_id to = 0;                // whom the sender believes to talk to
  std::uint64_t link_token = 0;  // to be put into each chunk that is sent to the sender of this
  std::vector<std::byte> worker_address;
};

std::vector<std::byte> write_greeting(const greeting& g);
/// Checks the wire version before anything else, since all after it may look different in another. Errors: malformed, wrong_version.
expected<greeting> read_greeting(std::span<const std::byte> bytes, std::uint32_t our_version);

/// What keeps `theirs` from being the other end of a link of ours. Errors, each with both values: wrong_run, wrong_recipe, refused.
expected<void> check_greeting(const link_hello& ours, const greeting& theirs);

/// Why a connection ends: a refusal or closing frame.
std::vector<std::byte> write_reason(const error& reason);
/// The text is a stranger's: clipped, valid UTF-8 without control characters afterwards. A code that is unknown becomes refused.
error read_reason(std::span<const std::byte> bytes);

std::string name_of(site_id site);  // "site 2", "the coordinator"

}  // namespace isthmus
