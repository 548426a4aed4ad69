#pragma once

#include "framework/core/expected.hpp"
#include "framework/transport/identity.hpp"
#include "launcher/console.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus::launcher {

struct keys_options;

/// What a newcomer is given: a file of mode 0600, or its text on standard input.
struct join_token {
  std::string run_id, site, address;  // address: where the desk listens
  public_key desk{};                  // whom to believe there
  std::int64_t expires = 0;           // seconds since 1970
  secret value;

  /// A new file; never over one that is there. Errors: environment, io_failed.
  expected<void> write(const std::string& path) const;
  /// "-": standard input. Errors: not_found, environment (its mode), io_failed, malformed.
  static expected<join_token> read(const std::string& path);
};

/// `keys token` and `keys admit`.
int make_token(const keys_options& options, console& out);
int admit_newcomers(const keys_options& options, console& out);

/// Both ends of a conversation with a deadline of a few seconds.
expected<std::vector<std::byte>> receive_exactly(int socket, std::size_t bytes);
[[nodiscard]] bool send_all(int socket, std::span<const std::byte> bytes);

}  // namespace isthmus::launcher
