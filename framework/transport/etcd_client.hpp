#pragma once

#include "framework/core/clock.hpp"
#include "framework/core/expected.hpp"
#include "framework/transport/address.hpp"

#include <nlohmann/json_fwd.hpp>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace isthmus {

/// What etcd keeps under a key.
struct etcd_entry {
  std::string key, value;
  std::int64_t created = 0;  // the store's revision when the key was made: no two lives of a key share one, and later is larger
};

/// The address of an etcd member: "http://a.b.c.d:port" or "http://[v6]:port". Errors: environment.
expected<socket_address> parse_etcd_url(const std::string& url);

/// etcd 3.4 or later, spoken to over the JSON gateway of its v3 API: no gRPC, a connection a request. The members are asked in turn,
/// beginning with the one that answered last; each has `patience`. Any thread may call; calls block. Errors of all: disconnected or
/// timed_out (no member answered; each is named with why), refused (etcd says no: its words), malformed (no answer of an etcd).
class etcd_client {
public:
  /// urls: of the members. Errors: environment (no url, or one that `reach` does not allow).
  static expected<etcd_client> make(const std::vector<std::string>& urls, const link_reach& reach, duration patience);
  etcd_client(etcd_client&& other) noexcept
      : urls_(std::move(other.urls_)), members_(std::move(other.members_)), patience_(other.patience_), first_(other.first_.load()) {}

  /// The key, as the majority has it.
  expected<std::optional<etcd_entry>> get(const std::string& key) const;
  /// All keys that begin so, ascending.
  expected<std::vector<etcd_entry>> list(const std::string& prefix) const;

  /// A lease: who holds it says so again and again, else every key that hangs on it goes.
  expected<std::int64_t> grant(std::int64_t seconds) const;
  /// False: there is no such lease any more.
  expected<bool> renew(std::int64_t lease) const;
  expected<void> revoke(std::int64_t lease) const;

  /// What a creation found.
  struct outcome {
    bool made = false;
    std::optional<etcd_entry> there, guard;  // when it was not made: what stands under the key and under the guard's
  };
  /// Another key, and when it must have been made.
  struct condition {
    std::string key;
    std::int64_t created = 0;
  };
  /// Makes the key in one transaction, if it is not there and the guard holds. lease 0: none.
  expected<outcome> create(const std::string& key, const std::string& value, std::int64_t lease,
                           const std::optional<condition>& guard = {}) const;

  /// "http://127.0.0.1:2379, http://127.0.0.1:2381"
  std::string text() const;

private:
  etcd_client() = default;
  expected<nlohmann::json> post(const std::string& path, const nlohmann::json& body) const;

  std::vector<std::string> urls_;
  std::vector<socket_address> members_;
  duration patience_{};
  mutable std::atomic<std::size_t> first_{0};
};

}  // namespace isthmus
