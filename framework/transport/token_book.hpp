#pragma once

#include "framework/core/expected.hpp"
#include "framework/transport/join.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus {

/// The tokens that one run has given out: a file of mode 0600 with a hash of each, so that who reads it can use none. Every change is on
/// disk before it is told; two processes may change it at once.
class token_book {
public:
  struct entry {
    site_id site = 0;
    token_hash hash{};
    std::int64_t expires = 0;  // seconds since 1970
    bool used = false;
  };
  explicit token_book(std::string path) : path_(std::move(path)) {}

  /// Errors: io_failed, disk_full, malformed, environment (others may read the file).
  expected<void> add(const entry& one);
  /// Uses the token up. Errors besides: not_found (never given out), refused (used before), timed_out (expired).
  expected<site_id> use(const token_hash& token, std::int64_t now);
  /// All that were given out; none where there is no file.
  expected<std::vector<entry>> read() const;

private:
  expected<void> write(const std::vector<entry>& all) const;
  std::string path_;
};

}  // namespace isthmus
