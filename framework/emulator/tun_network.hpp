#pragma once

#include "framework/emulator/link_emulator.hpp"
#include "framework/emulator/space.hpp"

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace isthmus::emulator {

/// Network namespaces, one a site, joined by a thread that reads every packet from one TUN device and writes it to another when and as
/// the link_emulator says. Steered while it runs, from any thread. Ends with its owner.
class tun_network final : public sim::steered_network {
public:
  /// sites: coordinator_id may be among them. Errors: environment.
  static expected<std::unique_ptr<tun_network>> make(const std::vector<site_id>& sites, std::uint64_t seed);
  ~tun_network() override;

  /// The namespace that the site's processes enter; stays ours.
  int space_of(site_id site) const { return ends_.at(site).space.get(); }
  /// "10.77.0.1".
  static std::string host_of(site_id site);
  packet_counters counters() const;
  void set_all_paths(const packet_conditions& conditions);

  void cut(site_id from, site_id to) override;
  void heal(site_id from, site_id to) override;
  void hold(site_id from, site_id to) override;
  void release(site_id from, site_id to) override;
  void worsen(site_id a, site_id b, const sim::path_fault& fault) override;
  void mend(site_id a, site_id b, const sim::path_fault& fault) override;
  void reset(site_id a, site_id b) override;
  void tear_next(site_id from) override;
  void corrupt_next(site_id from, site_id to) override;

private:
  explicit tun_network(std::uint64_t seed);
  template <class Change>
  void steer(Change change);
  void relay();
  void read_all(site_id from, int tun, time_point now);
  void wait(std::optional<time_point> due);

  std::map<site_id, network_space> ends_;
  mutable std::mutex mutex_;
  link_emulator emulator_;
  real_clock clock_;
  descriptor wake_;  // eventfd
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace isthmus::emulator
