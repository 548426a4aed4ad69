#pragma once

#include "framework/transport/ucx_transport.hpp"

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace isthmus::testing {

/// A transport with everything it tells written down, for tests to wait on.
class probe {
public:
  struct bulk_message {
    site_id from;
    shared_bytes header, payload;
  };
  struct notes {
    std::vector<std::pair<site_id, incarnation_number>> ups;
    std::vector<std::pair<site_id, error>> downs, refusals;
    std::vector<std::pair<site_id, shared_bytes>> controls;
    std::vector<bulk_message> bulks;
    std::map<std::uint64_t, expected<void>> sent;
    std::vector<std::string> log;
  };

  explicit probe(ucx_transport_options options);
  ~probe();

  transport& wire() { return *wire_; }
  /// Waits until what was noted satisfies the condition; false after 30 s.
  bool wait(const std::function<bool(const notes&)>& condition);
  bool wait_up(std::size_t times = 1);
  bool wait_down(std::size_t times = 1);
  bool wait_refused();
  notes now();

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  notes notes_;
  real_clock clock_;
  std::unique_ptr<transport> wire_;
};

ucx_transport_options options_of(site_id site, incarnation_number incarnation = 1);
/// ISTHMUS_TEST_SEALED is set: options_of gives keys, and so do peers in processes of their own.
bool links_are_sealed();
void keep_each_other(probe& a, site_id site_a, probe& b, site_id site_b);
/// Bytes that depend on seed and place.
shared_bytes patterned(std::size_t bytes, std::uint64_t seed);
bool same_bytes(const shared_bytes& a, const shared_bytes& b);
shared_bytes text_bytes(const std::string& text);

}  // namespace isthmus::testing
