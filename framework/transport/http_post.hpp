#pragma once

#include "framework/core/clock.hpp"
#include "framework/core/expected.hpp"
#include "framework/transport/address.hpp"

#include <string>

namespace isthmus {

struct http_answer {
  unsigned status = 0;  // 200 and the like
  std::string body;     // at most 64 MiB
};

/// One HTTP/1.1 POST of JSON over a TCP connection of its own (Boost.Beast). Blocks, but never longer than `patience`, from dialling to
/// the last byte. Errors: timed_out; disconnected (nobody listens, or it is no HTTP); too_large.
expected<http_answer> http_post(const socket_address& to, const std::string& path, const std::string& json, duration patience);

}  // namespace isthmus
