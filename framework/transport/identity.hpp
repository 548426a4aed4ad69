#pragma once

#include "framework/core/expected.hpp"
#include "framework/rounds/messages.hpp"
#include "framework/transport/secret.hpp"

#include <array>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>

namespace isthmus {

/// What the others of a run know a process by: an X25519 public key.
using public_key = std::array<std::byte, 32>;

std::string to_hex(const public_key& key);
/// Exactly 64 lower-case hexadecimal digits. Errors: malformed.
expected<public_key> parse_public_key(std::string_view hex);

/// A process's own key pair. The secret half lies in locked memory between guard pages, outside core dumps, and is wiped when it goes.
class identity {
public:
  static identity generate();
  static identity of(const secret& key);
  /// A file that write() made. Errors, with path, what was found and what to do: not_found, io_failed, environment (it may be read by
  /// others: its mode is not 0600, or it is not ours), malformed.
  static expected<identity> read(const std::string& path);
  /// A new file of mode 0600, on disk when it returns; never over one that is there. Errors: environment, io_failed, disk_full.
  expected<void> write(const std::string& path) const;
  /// Takes the place of the key file that is there, at once and for good: after a crash the file is the old or the new one. Errors: as of
  /// read (what is there must be a key of ours) and write.
  expected<void> replace(const std::string& path) const;

  identity(identity&& other) noexcept;
  identity& operator=(identity&&) = delete;
  ~identity();

  const public_key& key() const { return public_; }
  /// X25519 of our secret with their public key; false when that is no key (a point of small order).
  bool agree(const public_key& theirs, secret& shared) const;

private:
  identity();
  void derive_public();
  unsigned char* secret_;  // of sodium_malloc
  public_key public_{};
};

/// What seals the links of a process: its own keys, and the public keys of everybody in the run.
struct link_keys {
  identity own;
  std::map<site_id, public_key> roster;
};

/// That `keys` hold ours for `self`, and that no two of the roster share one. Errors: environment.
expected<void> check_keys(const link_keys& keys, site_id self);

}  // namespace isthmus
